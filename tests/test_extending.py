"""Everything that docs/extending.md shows is built from the page's own blocks, and works in every command."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest
from PIL import Image

from koa_lightning.config import folders, heat_maps, keys, metrics, recorded_overrides
from koa_lightning.config.compose import compose, validate
from koa_lightning.config.instantiate import made
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.explain import methods
from koa_lightning.losses import build as losses
from koa_lightning.metrics.weighted import function
from koa_lightning.models.net import NetSpec, build
from koa_lightning.training.augmentation.build import augmentation

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
FILE = re.compile(r"^`(my_\w+/[\w./]+)`:\n\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.M | re.S) for line in block.splitlines()
]
OWN = ["loss=expected_error", "model=tiny_knee", "augment=fogged", "callbacks=epochs", "explain=activation",
       "data=archive", "data.root=knees.zip"]  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder with all files of the page, and a ZIP file of phantoms."""
    folder = tmp_path_factory.mktemp("extending")
    for name, text in FILE.findall(PAGE.read_text()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    rows = phantom_manifest(40, 0)
    images = decode_phantoms(rows["path"].tolist(), 64)
    table = io.StringIO()
    lines = csv.writer(table)
    lines.writerow(["file", "grade", "patient"])
    with ZipFile(folder / "knees.zip", "w") as archive:
        for i, (image, grade, patient) in enumerate(zip(images, rows["grade"], rows["patient"], strict=True)):
            picture = io.BytesIO()
            Image.fromarray(image).save(picture, "PNG")
            archive.writestr(f"{i}.png", picture.getvalue())
            lines.writerow([f"{i}.png", grade, patient])
        archive.writestr("knees.csv", table.getvalue())
    return folder


@pytest.fixture
def own(written, monkeypatch):
    """This process as one that was started with the folder of configs, and its package on the path."""
    monkeypatch.chdir(written)
    monkeypatch.syspath_prepend(str(written))
    folders.use(["my_conf"])
    yield written
    folders.use([])
    for name in [name for name in sys.modules if name.split(".")[0] == "my_knees"]:
        del sys.modules[name]


def test_every_kind_has_a_file_and_a_command(written):
    groups = {path.parent.name for path in (written / "my_conf").rglob("*.yaml")}
    assert groups == {"loss", "_metric", "model", "data", "augment", "callbacks", "explain"}
    assert len(list((written / "my_knees").glob("*.py"))) == len(groups)
    text = " ".join(COMMANDS)
    assert all(choice.split("=")[0] + "=" in text for choice in OWN) and "within_one" in text


def test_every_command_of_the_page_composes(own):
    for command in COMMANDS:
        words = shlex.split(command)
        if words[:2] != ["python", "-m"] or "compare_predictions" in command:
            continue
        name = words[2].removeprefix("koa_lightning.")
        typed = words[5:]
        cfg = compose(name, typed)
        keys.check(cfg, name, typed)
        validate(cfg, name)


def test_everything_is_found_and_imported(own):
    cfg = compose("train", OWN)
    keys.check(cfg, "train", OWN)
    validate(cfg, "train")
    assert losses.loss(cfg.loss, [1] * 5).share == 0.5
    assert losses.recorded_loss(cfg.loss._target_, {"share": 2.0, "class_weights": "none"}, [1] * 5).share == 2.0
    assert build(NetSpec("tiny_knee")).net.num_features == 32
    assert type(dict(augmentation(cfg.augment, 64).operations)["fog"]).__name__ == "RandomFog"
    assert made(cfg.callbacks.epochs, "callbacks.epochs").file == Path("epochs.txt")
    assert len(made(cfg.data.source, "data.source")()) == 80
    assert methods.function("activation").__name__ == "activation"
    assert heat_maps.titles()["activation"] == "Mean activation"
    metric = metrics.of("within_one_expected")
    assert function(metric).__name__ == "within_one"
    assert metrics.best_is("test/within_one_tuned") == "max"
    assert {"within_one", "within_one_expected"} <= set(metrics.chosen("every_epoch"))
    assert "within_one" in metrics.chosen("compared")
    assert "my_knees.expected_error.ExpectedError" in recorded_overrides.installed_targets()


def test_nothing_of_it_is_known_where_no_folder_is_typed(written):
    target = "my_knees.expected_error.ExpectedError"
    assert losses.recorded_loss(target, {"share": 2.0}, [1] * 5) is None
    assert metrics.of("within_one") is None and "activation" not in heat_maps.names()
    assert target not in recorded_overrides.installed_targets()
    with pytest.raises(InputError, match="timm has no such model"):
        build(NetSpec("another_tiny_knee"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("of: confusion\nbest: max\n", "_target_ must be the address of a function"),
        ("_target_: a.b\nof: counts\nbest: max\n", "of=counts: must be one of confusion, ranking"),
        ("_target_: a.b\nof: confusion\nbest: most\n", "best=most: must be min or max"),
        ("_target_: a.b\nof: confusion\nbest: max\nrule: [x]\n", "rule: no such key of a metric"),
        ("_target_: a.b\nof: confusion\nbest: max\nrules: [x]\n", r"rules=\['x'\]: must be true, false, or a list of"),
        ("_target_: a.b\nof: ranking\nbest: max\nper_grade: true\n", "per_grade: only a metric of=confusion"),
    ],
)
def test_a_metric_that_is_declared_wrongly_is_named(text, line, tmp_path):
    (tmp_path / "_metric").mkdir()
    (tmp_path / "_metric" / "mine.yaml").write_text(text)
    folders.use([tmp_path])
    try:
        with pytest.raises(InputError, match=f"mine.yaml: {line}"):
            metrics.declared()
    finally:
        folders.use([])


def test_a_function_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "_metric").mkdir()
    (tmp_path / "_metric" / "mine.yaml").write_text("_target_: not_there.mine\nof: confusion\nbest: max\n")
    folders.use([tmp_path])
    try:
        with pytest.raises(InputError, match=r"mine.yaml: _target_=not_there.mine: No module named 'not_there'"):
            function(metrics.of("mine"))
    finally:
        folders.use([])


def run(folder, command, *arguments, package=True, typed=True):
    """Run a command of this program in the folder; returns what it did."""
    path = [str(Path(__file__).parents[1]), *([str(folder)] if package else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "KOA_CACHE": str(folder / "cache"),
                                "HF_HUB_OFFLINE": "1"}  # fmt: skip
    words = [
        sys.executable,
        "-m",
        f"koa_lightning.{command}",
        *(["--config-dir", "my_conf"] if typed else []),
        *arguments,
    ]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_they_work_in_every_command(written):
    tiny = ["data.image_size=64", "data.batch_size=8", "trainer=cpu", "trainer.precision=fp32", "trainer.max_epochs=2",
            "quiet=true", "tracking=none", "monitor=val/within_one", "explain.n_worst=1", "out=run"]  # fmt: skip
    done = run(written, "train", *OWN, *tiny)
    assert done.returncode == 0, done.stderr
    assert (written / "epochs.txt").read_text().split() == ["0", "1"]
    assert {"val/within_one", "train/within_one_expected"} <= set(pd.read_csv(written / "run/history.csv")["name"])
    ckpt = "ckpt=run/checkpoints/best.ckpt"

    done = run(written, "eval", ckpt, "split=val", "tracking=none", "explain=activation", "out=eval", "report=true")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((written / "eval/metrics.json").read_text())
    interval = json.loads((written / "eval/intervals.json").read_text())["within_one"]
    assert numbers["loss"] > 0 and numbers["within_one"] == pytest.approx(interval["value"])
    assert "within one grade" in (written / "eval/report.html").read_text()
    assert (written / "eval/activation.png").is_file()
    assert "within_one" in done.stdout

    done = run(written, "compare_predictions", "eval", "eval", "out=compared")
    assert done.returncode == 0, done.stderr
    assert "within_one" in json.loads((written / "compared/comparison.json").read_text())["differences"]
    with ZipFile(written / "knees.zip") as archive:
        archive.extract("0.png", written / "films")
    for name, more in (
        ("predict", ["input=films", "explain=activation", "out=predicted"]),
        ("calibrate", ["out=calibrated"]),
        (
            "explain_tests",
            ["explain=activation", "explain.n_tested=5", "explain.n_road=2", "tracking=none", "out=tests"],
        ),
    ):
        done = run(written, name, ckpt, *more)
        assert done.returncode == 0, (name, done.stderr)
    done = run(written, "train", "ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr

    done = run(written, "eval", ckpt, "split=val", "tracking=none", "out=none", typed=False)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1  # the package alone is not enough
