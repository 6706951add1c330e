import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from koa_lightning.config import launch as cli
from koa_lightning.config import outcome, run_folder
from koa_lightning.errors import InputError

pytestmark = pytest.mark.usefixtures("blank_figures")

HEAVY = ("torch", "lightning", "mlflow", "timm", "kornia", "torchmetrics", "matplotlib", "pandas")
QUICK = f"""
import sys
from koa_lightning.train import main
sys.argv[1:] = sys.argv[1].split()
try:
    main()
finally:
    print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


@pytest.fixture
def job(monkeypatch, launch, place):
    """Run a plain function of a config as an entry point `train` would; returns a result of `launch`."""

    def run(function, *arguments, before=None):
        module = ModuleType("a_job")
        module.run = function
        monkeypatch.setitem(sys.modules, "a_job", module)
        return launch(lambda: cli.start("train", "a_job:run", before), *arguments)

    return run


@pytest.fixture
def fails(launch, place):
    """Run an entry point that must end with exit code 2 and one line, and leave nothing; returns the line."""

    def run(main, *arguments):
        before = set(place.rglob("*"))
        ended = launch(main, *arguments)
        assert ended.code == outcome.BAD_INPUT
        assert len(ended.err) == 1, ended.err
        assert ended.out == []
        made = {path for path in set(place.rglob("*")) - before if path.name != "outputs"}
        assert made == set()
        return ended.err[0]

    return run


@pytest.mark.sample(2)
@pytest.mark.parametrize("arguments", ["--help", "--cfg job", "optimzer.lr=3", "loss=focl", "data.batch_size=0"])
def test_what_needs_no_training_imports_nothing_heavy(arguments, with_package, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", QUICK, arguments], capture_output=True, text=True, env=with_package, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stderr
    right = arguments.startswith("--")
    assert done.returncode == (outcome.DONE if right else outcome.BAD_INPUT)
    assert len(done.stderr.splitlines()) == (0 if right else 1)
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").iterdir())


def test_help_says_how_to_start(launch, place):
    ended = launch("train", "--help")
    assert ended.code == outcome.DONE
    assert "Research use only, not a medical device." in "\n".join(ended.out)
    assert any("loss: ce, chen_ordinal" in line for line in ended.out)
    assert "data: chen2018, folder, phantom, table" in ended.out
    assert any(line.startswith("sweep/pruner: halving, ") for line in ended.out)
    assert "${" not in "".join(ended.out)  # nothing is left to be worked out


@pytest.mark.slow
@pytest.mark.parametrize("main", ["eval", "predict"])
def test_help_of_the_others(main, launch):
    assert "Research use only" in "\n".join(launch(main, "--help").out)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["optimzer.lr=0.1"], "error: optimzer.lr: no such key in the configuration; did you mean 'optimizer.lr'?"),
        (["+foo=1"], "error: foo: no such key in the configuration"),
        (["out="], "error: out=: the name is empty"),
        (["modell=effb3"], "error: modell: no such key in the configuration; did you mean 'model'?"),
        (["loss=focl"], "error: loss=focl: no such choice; did you mean 'focal'?"),
        (["experiment=demoo"], "error: experiment=demoo: no such choice; did you mean 'demo'?"),
        (["loss.gamma=[1,"], "error: an override cannot be read"),
        (["=3"], "error: an override cannot be read"),
        (["--epochs", "5"], "error: --epochs: no such option"),
        (["data.batch_size=0"], "error: data.batch_size=0: must be a whole number from 1 to 65536"),
        (["data=chen2018"], "error: data.root must be given; type data.root=FOLDER"),
        (["data=chen2018", "data.root=no where"], "error: data.root="),
        (["data=folder", "data.root=empty"], "error: data.root="),
        (["data=table"], "error: data.table must be given"),
        (["data.source.n_patients=1"], "error: "),
        (["model.name=resnet81", "tracking=none"], "error: model.name=resnet81: timm has no such model"),
        pytest.param(
            ["model=effb0", "model.weights=imagenet", "tracking=none"],
            "error: model.weights=imagenet: ",
            marks=pytest.mark.slow,  # it asks the hub, whose program takes seconds to give up
        ),
        (["trainer.accelerator=cuda"], "error: trainer.accelerator=cuda: torch finds no GPU here; type trainer=cpu"),
        (["+loss.gama=1", "tracking=none"], "error: loss: "),
        (["optimizer.factory.betas=[2,3]", "tracking=none"], "error: optimizer.factory.betas=[2,3]: must be a list"),
        (["monitor=val/kappa", "tracking=none"], "error: monitor=val/kappa"),
        (["tracking.uri=http://127.0.0.1:9"], "error: tracking.uri=http://127.0.0.1:9: the MLflow server does not"),
        (["tracking.uri=ftp://x"], "error: tracking.uri=ftp://x: must be"),
        (["out=/proc/none/x"], "error: /proc/none"),
        (["ckpt=nowhere.ckpt"], "error: ckpt=nowhere.ckpt: there is no such file"),
        (["ckpt=last"], "error: ckpt=last: no run under outputs/ has a checkpoint"),
    ],
)
def test_training_with_bad_input_is_one_line(arguments, start, fails, place, tiny):
    (place / "empty").mkdir()
    ours = tiny.overrides if not arguments[0].startswith(("data=", "model=")) else ["trainer=cpu", "quiet=true"]
    assert fails("train", *ours, *arguments).startswith(start)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("main", "arguments", "start"),
    [
        ("eval", [], "error: ckpt: must be given; type ckpt=VALUE"),
        ("eval", ["ckpt=no where=.ckpt"], "error: ckpt=no where=.ckpt: there is no such file"),
        (
            "eval",
            ["ckpt=x", "split=testt"],
            "error: split=testt: must be one of test, val, train, auto_test, all",
        ),
        ("eval", ["ckpt=x", "data=chenn"], "error: data=chenn: no such choice; did you mean 'chen2018'?"),
        ("eval", ["ckpt=runs:/12"], "error: runs:/12: must be runs:/ID"),
        ("eval", [f"ckpt=runs:/{'a' * 32}"], f"error: runs:/{'a' * 32}: no such run"),
        ("predict", ["ckpt=x"], "error: input: must be given; type input=VALUE"),
        ("predict", ["ckpt=x", "input=a, b [1]"], "error: a, b [1]: no image found"),
        ("predict", ["ckpt=x", "input=a.png", "side=X"], "error: side=X: must be one of '', L, R"),
        ("predict", ["ckpt=x", "input=a.png", "batch_size=0"], "error: batch_size=0: must be"),
    ],
)
def test_the_others_with_bad_input_too(main, arguments, start, fails):
    assert fails(main, *arguments).startswith(start)


def test_a_file_in_place_of_the_run_folder(launch, place):
    (place / "file").touch()
    for out, line in (("file", "already exists and is not a folder"), ("file/run", "part of the path is not a folder")):
        ended = launch("train", f"out={out}")
        assert ended.code == outcome.BAD_INPUT
        assert ended.err == [f"error: {out}: {line}; fix this, or name another folder with out=FOLDER"]


def test_a_file_in_place_of_the_store(fails, place, tiny):
    (place / "mlruns/mlflow.db").unlink()
    (place / "mlruns").rmdir()
    (place / "mlruns").touch()
    assert fails("train", *tiny.overrides).startswith(f"error: tracking database {place}/mlruns/mlflow.db: ")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EACCES, "no permission"),
        (errno.EFBIG, "the file would be larger than the disk or the limit (ulimit -f) allows"),
        (errno.EIO, "the disk or network drive has failed"),
        (errno.ESTALE, "the network drive no longer has this file"),
        (errno.EMFILE, "this program has reached the limit of open files (ulimit -n)"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.ELOOP, os.strerror(errno.ELOOP)),  # in no table
        (errno.ETXTBSY, os.strerror(errno.ETXTBSY)),
    ],
)
def test_a_disk_that_takes_nothing(job, number, words):
    def write(cfg):
        raise OSError(number, os.strerror(number), "some/file")

    ended = job(write)
    assert ended.code == outcome.BAD_INPUT
    assert ended.err == [f"error: some/file: {words}; fix this, or name another folder with out=FOLDER"]


def test_an_error_of_the_system_without_file_and_number(job):
    def fail(cfg):
        raise OSError("the image is truncated")

    ended = job(fail)
    assert ended.code == outcome.BAD_INPUT
    assert ended.err[0].startswith("error: a file or an address: the image is truncated; fix this")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: [1", "not plain YAML in line "),
        ("# @package _global_\nseed: !!python/object:os.system {}\n", "not plain YAML in line 2 "),
        ("seed: *nothing\n", "not plain YAML in line 1 "),
        ("[" * 100_000, "nested too deeply"),
        (b"# \xff\xfe", "not UTF-8"),
    ],
)
def test_a_broken_config_of_ones_own(content, line, job, place):
    (place / "mine/experiment").mkdir(parents=True)
    (place / "mine/experiment/x.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    ended = job(lambda cfg: {}, "--config-dir", "mine", "experiment=x")
    assert (ended.code, len(ended.err)) == (outcome.BAD_INPUT, 1)
    assert line in ended.err[0]


@pytest.mark.parametrize("override", ["data.pattern=^(?P<patient>Knee\\d+) \\((?P<side>[LR])\\)", "name=a=b (ö)"])
def test_a_text_is_taken_as_typed(override, job):
    seen = []
    key, _, value = override.partition("=")
    assert job(lambda cfg: seen.append(OmegaConf.select(cfg, key)), "data=folder", override).code == outcome.DONE
    assert seen == [value]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["größe = (1)", "a,b (1)", "x [2]"])
def test_paths_of_a_sweep_are_taken_as_typed(name, job, place):
    seen = []
    whole = "a,b" not in name
    typed = f"{place}/{name}"
    ended = job(lambda cfg: seen.append(cfg.data.root), "-m", "data=folder", f"data.root={typed}", "seed=1,2")
    assert (ended.code, ended.err) == (outcome.DONE, [])
    assert seen == ([typed] * 2 if whole else [f"{place}/a"] * 2 + ["b (1)"] * 2)


@pytest.mark.slow
def test_the_run_folders_of_a_sweep_in_a_strange_folder(job, place):
    seen = []
    assert job(lambda cfg: seen.append(cfg.out), "-m", "seed=1,2", "out=many (ö) a=b").code == outcome.DONE
    assert seen == [str(place / "many (ö) a=b" / name) for name in "01"]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        ("train", ["out=~nouser/run"]),
        ("train", ["-m", "seed=1,2", "out=~nouser/run"]),
        ("train", ["ckpt=~nouser/last.ckpt"]),
        ("train", ["data=folder", "data.root=~nouser/x"]),
        ("train", ["data=table", "data.table=~nouser/x.csv"]),
        ("train", ["data.cache_dir=~nouser/cache"]),
        ("train", ["tracking.uri=sqlite:///~nouser/m.db"]),
        ("eval", ["ckpt=~nouser/best.ckpt"]),
        ("eval", ["table=~nouser/t.csv"]),
        ("predict", ["ckpt=x", "input=~nouser/x.png"]),
    ],
)
def test_the_home_of_nobody(main, arguments, launch, place, tiny):
    ended = launch(main, *(tiny.overrides if main == "train" and "data=" not in arguments[0] else []), *arguments)
    assert (ended.code, len(ended.err)) == (outcome.BAD_INPUT, 1), ended.err
    assert ended.err[0].startswith("error: ") and "there is no user for the home folder ~nouser" in ended.err[0]


def test_exit_codes(job):
    assert job(lambda cfg: {}).code == outcome.DONE
    assert job(lambda cfg: None).code == outcome.DONE
    assert job(lambda cfg: {"exit_code": outcome.PARTLY}).code == outcome.PARTLY
    assert job(lambda cfg: {"exit_code": outcome.INTERRUPTED}).code == outcome.INTERRUPTED


def test_ctrl_c_before_anything_began(job, place):
    def press(cfg):
        raise KeyboardInterrupt

    ended = job(press)
    assert (ended.code, ended.err) == (outcome.INTERRUPTED, ["error: interrupted"])
    assert list((place / "outputs").iterdir()) == []


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch, job):
    def broken(cfg):
        return 1 / 0

    monkeypatch.setattr(sys, "argv", ["koa"])
    with pytest.raises(ZeroDivisionError):
        job(broken)


def test_the_config_that_a_job_sees(job, place):
    seen = []
    assert job(lambda cfg: seen.append(cfg), "out=a b=c, d", "seed=3").code == outcome.DONE
    assert seen[0].out == str(place / "a b=c, d")
    assert seen[0].seed == 3
    assert Path(seen[0].out, ".hydra/config.yaml").is_file()


@pytest.mark.slow
def test_before_rewrites_the_overrides_of_one_run_alone(job):
    seen = []
    job(lambda cfg: seen.append(cfg.seed), "seed=1", before=lambda overrides: [*overrides, "seed=2"])
    assert seen == [2]
    job(lambda cfg: seen.append(cfg.seed), "-m", "seed=1", before=lambda overrides: [*overrides, "seed=2"])
    assert seen == [2, 1]


def test_the_folder_of_a_run_that_has_just_begun_stays(job, place):
    with run_folder.holding(place / "taken"):
        assert job(lambda cfg: validate_fails(), "out=taken").code == outcome.BAD_INPUT
        assert (place / "taken").is_dir()
    job(lambda cfg: validate_fails(), "out=taken")
    assert not (place / "taken").exists()


@pytest.mark.sample(1)
@pytest.mark.parametrize("several", [[], ["-m", "seed=1,2"]])
def test_no_password_comes_into_a_record(job, place, monkeypatch, several):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")
    seen = []

    def remember(cfg):
        run_folder.remember(Path(cfg.out), config=cfg)
        seen.append((cfg.tracking.uri, os.environ["MLFLOW_TRACKING_PASSWORD"]))

    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert (
        job(remember, *several, "tracking.enabled=false", "tracking.uri=http://anna:s3cret@host:5000", "out=run").code
        == outcome.DONE
    )
    assert set(seen) == {("http://host:5000", "s3cret")}
    written = [file for file in place.rglob("*") if file.is_file()]
    assert {"overrides.yaml", "config.yaml", "hydra.yaml", "slurm.json"} <= {file.name for file in written}
    assert not any(b"s3cret" in file.read_bytes() for file in written)


@pytest.mark.parametrize("command", ["job", "prepare", "predict"])
def test_an_empty_folder_of_the_user_stays(job, launch, place, command):
    (place / "mine").mkdir()
    if command == "job":
        assert job(lambda cfg: validate_fails(), "out=mine").code == outcome.BAD_INPUT
    else:
        words = ["output=mine"] if command == "prepare" else ["ckpt=nosuch", "out=mine"]
        assert launch(command, "input=nosuch", *words).code == outcome.BAD_INPUT
    assert list((place / "mine").iterdir()) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("prepare", ["input=mine", "output=mine"]),
        ("prepare", ["input=more", "output=mine", "grades=mine/table.csv"]),
        ("predict", ["ckpt=x", "input=mine", "out=mine/"]),
        ("predict", ["ckpt=x", "input=mine", "out=more/../mine"]),
        ("train", ["data=folder", "data.root=mine", "out=link"]),
        ("train", ["-m", "data=folder", "data.root=mine", "out=mine", "seed=1,2"]),
        ("audit", ["data=folder", "data.root=mine", "out=mine"]),
        ("split", ["data=table", "data.table=mine/table.csv", "out=mine"]),
        ("eval", ["table=mine/table.csv", "out=mine"]),
        ("compare_predictions", ["mine/table.csv", "more/table.csv", "out=mine"]),
    ],
)
def test_results_are_not_written_among_what_is_read(launch, place, command, words):
    for folder in ("mine", "more"):
        (place / folder).mkdir()
        (place / folder / "table.csv").write_text("path\n")
    (place / "link").symlink_to("mine")
    ended = launch(command, *words)
    assert (ended.code, len(ended.err)) == (outcome.BAD_INPUT, 1)
    assert "is also the folder of" in ended.err[0]
    assert {path.name for path in place.rglob("*")} >= {"mine", "table.csv"}
    assert [path.name for path in (place / "mine").iterdir()] == ["table.csv"]


def test_a_refused_command_leaves_a_run_that_is_there_as_it_is(trained, launch, place, tiny):
    shutil.copytree(trained.out, place / "run")
    run_folder.remember(place / "run", ["seed=3"])
    before = {file: file.read_bytes() for file in (place / "run").rglob("*") if file.is_file()}
    ended = launch("train", *tiny.overrides, "data.source.seed=5", "monitor=val/kappa", "tracking=none", "out=run")
    assert (ended.code, len(ended.err)) == (outcome.BAD_INPUT, 1)
    assert {file: file.read_bytes() for file in (place / "run").rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_a_run_begun_anew_in_its_folder_has_the_config_of_the_new_command(job, place):
    job(lambda cfg: run_folder.remember(Path(cfg.out), config=cfg), "seed=3", "out=run")
    job(
        lambda cfg: run_folder.remember(Path(cfg.out), config=cfg),
        "seed=4",
        "out=run",
        before=run_folder.with_old_overrides,
    )
    assert OmegaConf.load(place / "run/.hydra/config.yaml").seed == 4
    assert OmegaConf.load(place / "run/.hydra/overrides.yaml") == ["seed=4"]


@pytest.mark.slow
def test_a_batch_of_one_value_a_channel(launch, place, tiny):
    ended = launch("train", *tiny.overrides, "data.batch_size=1", "data.image_size=32", "tracking=none")
    assert ended.code == outcome.BAD_INPUT
    assert ended.err[-1].startswith(
        "error: data.batch_size=1: batch normalisation needs more than one value per channel"
    )


def test_a_value_error_of_a_job_is_no_override_that_cannot_be_read(job):
    with pytest.raises(ValueError, match="of the program"):
        job(lambda cfg: int("of the program"))


def test_a_folder_with_something_in_it_stays(job, place):
    def write_and_fail(cfg):
        (Path(cfg.out) / "figure.png").touch()
        raise InputError("no")

    job(write_and_fail, "out=made")
    assert (place / "made/figure.png").exists()
    (place / "mine").mkdir()
    (place / "mine/notes.txt").touch()
    job(lambda cfg: validate_fails(), "out=mine")
    assert (place / "mine/notes.txt").exists()
    job(lambda cfg: validate_fails(), "out=.")
    assert place.is_dir()


def validate_fails():
    raise InputError("no")


@pytest.mark.parametrize(("several", "times"), [(["-m", "seed=1,2"], 2), ([], 0)])
def test_a_launcher_may_start_processes_whose_allocator_is_not_tuned(several, times, job, monkeypatch):
    tuned = []
    monkeypatch.setattr(cli, "tune_allocator", lambda: tuned.append(True))
    assert job(lambda cfg: None, *several).code == outcome.DONE
    assert len(tuned) == times


@pytest.mark.slow
def test_a_sweep_continues_after_a_job_that_fails(job, place):
    seen = []

    def some_fail(cfg):
        seen.append((cfg.seed, Path(cfg.out).name))
        if cfg.seed == 1:
            raise InputError("seed=1: not today")
        (Path(cfg.out) / "result").touch()
        return {"val/quadratic_kappa": 0.5}

    ended = job(some_fail, "-m", "seed=0,1,2", "out=many")
    assert seen == [(0, "0"), (1, "1"), (2, "2")]
    assert ended.code == outcome.PARTLY
    assert ended.err == ["error: seed=1: not today"]
    assert sorted(path.name for path in (place / "many").iterdir()) == ["0", "2", "multirun.yaml"]


@pytest.mark.slow
def test_a_sweep_continues_after_a_fault_but_says_it(job):
    seen = []

    def one_breaks(cfg):
        seen.append(cfg.seed)
        return {"val/quadratic_kappa": 1 / cfg.seed}

    with pytest.raises(ZeroDivisionError):
        job(one_breaks, "-m", "seed=0,1")
    assert seen == [0, 1]


@pytest.mark.slow
def test_ctrl_c_ends_the_whole_sweep(job):
    seen = []

    def press(cfg):
        seen.append(cfg.seed)
        return {"exit_code": outcome.INTERRUPTED}

    ended = job(press, "-m", "seed=0,1,2")
    assert (seen, ended.code) == ([0], outcome.INTERRUPTED)


@pytest.mark.sample(1)
@pytest.mark.parametrize("arguments", [["optimzer.lr=1,2"], ["loss=ce,focl"], ["seed=-1,-2"]])
def test_a_sweep_with_bad_input_leaves_nothing(arguments, launch, place):
    ended = launch("train", "-m", *arguments)
    assert ended.code == outcome.BAD_INPUT
    assert set(ended.err) and all(line.startswith("error: ") for line in ended.err)
    assert not (place / "outputs").exists() or list((place / "outputs").iterdir()) == []


def test_one_line():
    assert outcome.one_line(ValueError("x")) is None
    wrapped = InstantiationException("Error instantiating X")
    wrapped.__cause__ = InputError("the reason")
    assert outcome.one_line(wrapped) == "the reason"
    wrapped.__cause__ = ZeroDivisionError()
    assert outcome.one_line(wrapped) is None
    with pytest.raises(Exception) as missing:
        OmegaConf.create({"a": {"b": "???"}}).a.b  # noqa: B018
    assert outcome.one_line(missing.value) == "a.b: must be given; type a.b=VALUE"


def test_say_error_is_one_line(capsys):
    outcome.say_error("two\n lines")
    assert capsys.readouterr().err == "error: two lines\n"
