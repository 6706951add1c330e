"""Bad input of every kind to every command: exit code 2 and one line that says what is wrong, never a traceback."""

import os
import random

import pytest

LONG = "a" * 5000
# Each is made in the working directory of a test; `folder/` and `pipe` are what their names say.
FILES = {
    "binary.bin": bytes(range(256)) * 40,
    "empty.csv": b"",
    "words.txt": b"no such thing\n",
    "page.html": b"<html>",
    "half.png": b"\x89PNG\r\n\x1a\n\0\0",
    "zip.ckpt": b"PK\3\4" + b"\0" * 99,
    "table.csv": b"a,b\n1,2\n",
    "nan.csv": b"path,grade\nx.png,nan\n",
    "deep.json": b"[" * 99_999,
    "utf16.csv": "path,grade\n".encode("utf-16"),
}
STRANGE = [
    *(
        "missing",
        "folder",
        "pipe",
        "/dev/null",
        "/proc/self/mem",
        "gr\u00f6\u00dfe\u2019 \u819d",
        "two\nlines",
        LONG,
        " ",
    ),
    *("$(touch hacked)", "`touch hacked`", "a;touch hacked", "'; DROP TABLE runs; --", "../../../../etc/shadow"),
    *(
        "-",
        "*",
        "**/*",
        "[",
        "]",
        "{a: b",
        "\\",
        '"',
        "%s%n",
        "${oc.env:HOME}",
        "\x1b[31mred",
        "\u202egnp.x",
        "~nobody/x",
    ),
    *("http://127.0.0.1:9/x", "file:///etc/passwd", "runs:/", "models:/", "models:/x@y", "runs:/../x"),
    *("null", "true", "1e999", "___"),
]
# A command, what else it needs, and the key of a place.
PLACES = [
    ("train", ["tracking=none", "data.source.n_patients=40"], "ckpt"),
    ("train", ["data=folder", "tracking=none"], "data.root"),
    ("train", ["data=chen2018", "tracking=none"], "data.root"),
    ("train", ["data=table", "tracking=none"], "data.table"),
    ("train", ["data.split=table", "tracking=none"], "data.split_table"),
    ("train", ["trainer=cpu", "tracking=none"], "model.weights"),
    ("train", ["trainer=cpu"], "tracking.uri"),
    ("cross_validate", ["data=folder", "data.folds=2", "tracking=none"], "data.root"),
    ("eval", ["tracking=none"], "ckpt"),
    ("eval", ["tracking=none"], "table"),
    ("predict", ["input=half.png"], "ckpt"),
    ("predict", ["ckpt=zip.ckpt"], "input"),
    ("calibrate", [], "ckpt"),
    ("report", [], "ckpt"),
    ("report", [], "table"),
    ("explain_tests", ["tracking=none"], "ckpt"),
    ("audit", ["data=folder"], "data.root"),
    ("audit", ["data=table"], "data.table"),
    ("prepare", ["output=made"], "input"),
    ("split", ["data=folder", "out=made"], "data.root"),
    ("compare", [], ""),
    ("compare_predictions", ["table.csv"], ""),
    ("sweep_report", [], "name"),
    ("sweep_report", [], "storage"),
    ("prune_checkpoints", [], "tracking.experiment"),
    ("register", [], "run"),
    ("reproduce", [], "run"),
    ("server", ["folder=made"], "database"),
    ("serve", ["port=1"], "ckpt"),
    ("serve", ["ckpt=zip.ckpt"], "keep"),
    ("serve", ["ckpt=zip.ckpt"], "study"),
]
NUMBERS = [
    "abc",
    "-1",
    "0",
    "1e999",
    "nan",
    "99999999999999999999999",
    "[1,2]",
    "{a:1}",
    "null",
    "true",
    "''",
    "0x10",
    "\u0661",
]
OF_TRAIN = (
    *("seed", "data.batch_size", "data.image_size", "trainer.max_epochs", "optimizer.lr", "data.fraction", "data.mean"),
    *(
        "optimizer.weight_decay",
        "trainer.precision",
        "model.name",
        "loss",
        "augment.ops.flip.p",
        "scheduler",
        "mix.mixup",
    ),
    *("trainer.devices", "callbacks.early_stopping", "explain.n_worst", "monitor"),
)
OF_EVAL = ("split", "tta", "alpha", "batch_size", "subgroups", "edges", "readers")
# Each command fails for another reason too, where a number happens to be one that may be.
SETTINGS = [
    *(("train", ["data=folder", "data.root=missing", "tracking=none"], key) for key in OF_TRAIN),
    *(("eval", ["ckpt=missing"], key) for key in OF_EVAL),
    *(("predict", ["ckpt=missing", "input=missing"], key) for key in ("side", "batch_size", "refer_below", "alpha")),
    *(("audit", ["data=folder", "data.root=missing"], key) for key in ("near", "data.folds", "out")),
    *(("prepare", ["input=missing", "output=made"], key) for key in ("spacing", "crop", "side")),
    *(("prune_checkpoints", ["tracking.experiment=missing"], key) for key in ("keep", "yes")),
    *(("server", ["database=mysql://x"], key) for key in ("port", "workers", "host", "options")),
    *(
        ("serve", ["ckpt=missing"], key)
        for key in ("port", "workers", "host", "max_mb", "timeout", "token", "insecure")
    ),
    ("cross_validate", ["data=folder", "data.root=missing"], "parallel"),
    ("sweep_report", ["storage=sqlite:///missing.db"], "trial"),
]
CONFLICTS = [
    ("train", ["scheduler=[1,2]", "tracking=none"]),
    ("train", ["sweep=tpe"]),
    ("train", ["-m", "sweep=tpe", "seed=3"]),
    ("train", ["-m", "sweep=tpe", "optimizer.lr=interval(1,0)"]),
    ("train", ["-m", "sweep=tpe", "data.root=choice(a,b)"]),
    ("train", ["-m", "sweep=grid", "optimizer.lr=interval(1e-4,1e-3)"]),
    ("train", ["data.fold=3", "tracking=none"]),
    ("train", ["data.folds=2", "data.fold=5", "tracking=none"]),
    ("train", ["ckpt=last", "out=elsewhere"]),
    ("train", ["data=folder"]),
    ("train", ["data=table", "data.root=folder", "data.table=null"]),
    ("train", ["loss=ce", "loss=nosuch"]),
    ("train", ["~data"]),
    ("train", ["~loss.class_weights", "tracking=none", "data=folder", "data.root=missing"]),
    ("train", ["+loss.a.b.c=1", "tracking=none"]),
    ("train", ["loss._target_=os.system", "tracking=none"]),
    ("train", ["hydra.run.dir=/proc/none"]),
    ("train", ["--multirun"]),
    ("train", ["--config-name", "nosuch"]),
    ("train", ["--config-dir", "missing"]),
    ("train", ["--config-path", "missing"]),
    ("train", ["--nosuch"]),
    ("train", ["-x"]),
    ("train", ["="]),
    ("train", ["seed"]),
    ("train", ["seed=1=2"]),
    ("train", ["SEED=1"]),
    ("train", ["out=words.txt"]),
    ("train", ["out=words.txt/run"]),
    ("train", ["out=/proc/1/run"]),
    ("cross_validate", []),
    ("cross_validate", ["data.folds=1"]),
    ("cross_validate", ["data.folds=2", "data.fold=1"]),
    ("cross_validate", ["data.folds=2", "ckpt=last"]),
    ("eval", []),
    ("eval", ["ckpt=zip.ckpt", "table=table.csv"]),
    ("eval", ["ckpt=[]"]),
    ("eval", ["ckpt=[zip.ckpt,zip.ckpt]"]),
    ("predict", []),
    ("predict", ["ckpt=[zip.ckpt]", "input=[]"]),
    ("predict", ["ckpt=zip.ckpt", "input=half.png", "out=words.txt"]),
    ("calibrate", []),
    ("calibrate", ["ckpt=zip.ckpt", "method=nosuch"]),
    ("report", []),
    ("report", ["ckpt=zip.ckpt", "table=table.csv"]),
    ("explain_tests", []),
    ("audit", ["data.root=null"]),
    ("prepare", []),
    ("prepare", ["input=folder", "output=folder"]),
    ("split", ["data=folder", "data.root=folder"]),
    ("compare", []),
    ("compare", ["one"]),
    ("compare", ["search=nonsense ("]),
    ("compare", ["search='; DROP TABLE runs"]),
    ("compare_predictions", []),
    ("compare_predictions", ["table.csv"]),
    ("compare_predictions", ["table.csv", "table.csv", "table.csv"]),
    ("prune_checkpoints", []),
    ("prune_checkpoints", ["sweep_run=x", "tracking.experiment=y"]),
    ("register", []),
    ("register", ["run=x", "name="]),
    ("reproduce", []),
    ("reproduce", ["run=x", "run=y"]),
    ("server", ["port=70000"]),
    ("server", ["host=nosuch.invalid"]),
    ("server", ["host=[", "folder=made"]),
]


def _cases():
    for command, typed in _any():
        # Where all that was typed may be, there is still no such metric: nothing is trained.
        fault = (
            ["monitor=val/nosuch", "data.image_size=32", "trainer.precision=fp32", "trainer.accelerator=cpu"]
            if command in ("train", "cross_validate")
            else []
        )
        yield (
            command,
            [*typed, *(item for item in fault if not any(one.startswith(item.split("=")[0]) for one in typed))],
        )


def _any():
    chance = random.Random(7)
    for command, more, key in PLACES:
        for value in chance.sample([*FILES, *STRANGE], 12):
            yield command, [*more, f"{key}={value}" if key else value]
    for command, more, key in SETTINGS:
        for value in chance.sample(NUMBERS, 5):
            yield command, [*more, f"{key}={value}"]
    yield from CONFLICTS


ALL = list(_cases())
QUICK = {str(case) for case in random.Random(0).sample(ALL, 40)}


def _marked(case):
    shown = " ".join([case[0], *case[1]])
    name = "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in shown)[:70]
    return pytest.param(*case, id=name, marks=() if str(case) in QUICK else pytest.mark.slow)


@pytest.fixture
def files(place, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))  # `prepare` keeps a key there
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    (place / "folder").mkdir()
    (place / "folder/notes.txt").write_text("mine\n")
    os.mkfifo(place / "pipe")
    return place


@pytest.mark.sample(20)
@pytest.mark.parametrize(("command", "typed"), [_marked(case) for case in ALL])
def test_bad_input_is_one_line(command, typed, launch, files):
    ended = launch(command, *typed)
    assert ended.code == 2, (ended.code, ended.err, ended.out)
    errors = [line for line in ended.err if line.startswith("error: ")]
    assert ended.err[-1] == errors[-1], ended.err
    assert len(errors) == 1 or command == "prepare", ended.err  # which names every file, and then all
    assert not any("Traceback" in line for line in ended.err)
    assert len(errors[0].split(": ", 1)[1]) > 10
    assert not (files / "hacked").exists()
    assert (files / "folder/notes.txt").read_text() == "mine\n"  # what was there is as it was
    assert {name: (files / name).read_bytes() for name in FILES} == FILES
