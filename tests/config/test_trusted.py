"""A file must not choose where results and passwords go."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from koa_lightning.config import run_folder, trusted
from koa_lightning.config.compose import compose
from koa_lightning.config.trusted import Place, is_local_store, place, shown
from koa_lightning.errors import InputError
from koa_lightning.tracking.begin import check_server, open_run

pytestmark = pytest.mark.usefixtures("blank_figures")

HERE = "sqlite:///mlruns/mlflow.db"


@pytest.fixture
def secrets(monkeypatch):
    """What the user's environment holds for the user's own server."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")


def tracking(**more):
    values = {"enabled": True, "uri": None, "experiment": "koa", "run_name": None, "system_metrics": False, "tags": {}}
    return OmegaConf.create({**values, **more})


def test_the_configured_address_counts(monkeypatch):
    """A record holds no password; where the variable names the same place, it is taken, with its own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/")
    own = "https://me:secret@host/"
    assert place(None, "https://host") == Place(own, False)
    assert place(None, "https://evil:x@host") == Place(own, False)
    assert place(None, None) == Place(own, False)
    assert place(None, "") == Place(own, False)
    assert place(None, "https://other") == Place(own, True)
    assert place("sqlite:///x.db", "https://other") == Place("sqlite:///x.db", False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert place(None, None) == Place(None, False)
    assert place(None, "https://host") == Place(None, True)


@pytest.mark.parametrize(
    "named",
    [
        "http://169.254.169.254/latest", "https://host.evil.example", "https://host@evil.example", "https://host:81",
        "https://host/sub", "https://evil.example#https://host", "http://host", "HTTPS://evil.example",
        "postgresql://evil.example/mlflow", "mysql://evil/x", "databricks", "databricks://profile", "file:///tmp/x",
        "file:mlruns", "mlruns", "/etc", "s3://evil/x", "uc:evil", "plugin+x://evil", "//evil/x", "\\\\evil\\x",
        "sqlite:////etc/passwd", "sqlite:////no/where.db", "sqlite:///:memory:", "sqlite://", "sqlite:///",
        "sqlite://///evil/share/x.db", "sqlite:///mlruns/mlflow.db?vfs=evil", "sqlite+pysqlite:///mlruns/mlflow.db",
        "sqlite:////dev/zero", "sqlite:////proc/self/mem", "sqlite:///~nobody_of_this_name/x.db", "sqlite:///mlruns",
        "sqlite:///empty.db", "sqlite:///other.db", "sqlite:///a\0b", "sqlite:///" + "x" * 5000,
        "mlflow-artifacts://evil", "${oc.env:HOME}", 5, 1.5, True, ["https://host"], {"uri": "https://host"}, b"https://host",
    ],
)  # fmt: skip
def test_no_other_address_counts(place, monkeypatch, named):
    Path("empty.db").touch()
    with sqlite3.connect("other.db") as other:
        other.execute("CREATE TABLE cookies (value TEXT)")
    other.close()
    before = Path("other.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    assert trusted.place(None, named) == Place("https://me:secret@host", True)
    assert Path("empty.db").stat().st_size == 0
    assert Path("other.db").read_bytes() == before
    assert {path.name for path in Path().iterdir()} == {"mlruns", "empty.db", "other.db"}


def test_a_store_on_this_machine_counts(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://host")
    full = f"sqlite:///{place}/mlruns/mlflow.db"
    assert is_local_store(HERE) and is_local_store(full)
    assert trusted.place(None, full) == Place(full, False)


def test_what_is_shown_is_one_short_line():
    assert shown("http://me:secret@host/x") == "http://host/x"
    assert shown("a\nb\x1b[31m") == "a?b?[31m"
    assert len(shown("x" * 10_000)) < 250
    assert shown(["x"]) == "a list"


@pytest.mark.parametrize("attach", [True, False])
@pytest.mark.parametrize("run_id", ["0" * 32, None, "../../x\n", 5, ["a"]])
def test_a_run_does_not_go_where_a_file_says(alone, place, listener, secrets, capsys, attach, run_id):
    check_server(tracking(), listener.address)
    run = open_run(tracking(), Path("run"), "named", run_id, listener.address, attach)
    run.log_metrics({"val/mae": 0.5}, 0)
    assert run.close() == []
    assert run.uri == f"sqlite:///{place}/mlruns/mlflow.db"
    error = capsys.readouterr().err
    assert error.startswith(f"{listener.address}, the store that a file names, is neither configured here")
    assert error.count("\n") == 1
    assert listener.seen == []


def test_the_listener_would_have_seen_it(alone, place, listener, secrets):
    """So that the tests around this one can fail."""
    with pytest.raises(InputError):
        open_run(tracking(uri=listener.address), Path("run"), "named")
    assert any(authorization for _, _, authorization in listener.seen)


def test_a_run_that_is_in_the_own_store_continues_there(alone, place, listener, capsys):
    first = open_run(tracking(), Path("run"), "named")
    first.close()
    again = open_run(tracking(), Path("run"), "named", first.run_id, listener.address)
    again.close()
    assert again.run_id == first.run_id
    assert f"logging to sqlite:///{place}/mlruns/mlflow.db" in capsys.readouterr().err
    assert listener.seen == []


@pytest.fixture
def hostile(trained, listener, ready_database, tmp_path):
    """A checkpoint that names the listener as its store, in a folder with a store of its own."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(ready_database, tmp_path / "mlruns")
    run = tmp_path / "given"
    shutil.copytree(trained.out, run)
    for file in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(file, weights_only=True)
        names = [key for key, entry in content.items() if isinstance(entry, dict) and "tracking" in entry]
        assert names
        for name in names:
            content[name]["tracking"]["uri"] = listener.address
        torch.save(content, file)
    return run


def test_eval_of_a_hostile_checkpoint(hostile, listener, secrets, tmp_path, capsys):
    from koa_lightning.evaluation.evaluate import evaluate

    typed = [f"ckpt={hostile}/checkpoints/best.ckpt", f"out='{tmp_path}/evaluated'", "report=false"]
    evaluate(compose("eval", typed))
    assert f"{listener.address}, the store that a file names" in capsys.readouterr().err
    assert listener.seen == []


@pytest.mark.parametrize(
    "item",
    [
        "tracking.uri=ADDRESS", "++tracking.uri=ADDRESS", "+tracking.uri='ADDRESS'", "tracking={uri:'ADDRESS'}",
        "++tracking={uri:'ADDRESS',enabled:true}", "tracking.uri=sqlite:////no/where/new.db",
        "tracking.uri=${oc.env:EVIL}",
    ],
)  # fmt: skip
def test_a_resumed_run_takes_no_store_from_its_folder(tmp_path, capsys, item):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    evil = item.replace("ADDRESS", "http://me:pw@evil.example")
    (tmp_path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(["loss=ce", evil]))
    taken = run_folder.with_old_overrides([f"ckpt={tmp_path}/checkpoints/last.ckpt"])
    assert taken[0] == "loss=ce"
    assert not any("tracking" in each for each in taken)
    error = capsys.readouterr().err
    assert "neither configured here nor a database on this machine; not used" in error
    assert error.count("\n") == 1
    assert "pw" not in error
    taken = run_folder.with_old_overrides([f"ckpt={tmp_path}/checkpoints/last.ckpt", "tracking.uri=http://mine"])
    assert [each for each in taken if "tracking" in each] == ["tracking.uri=http://mine"]
    assert capsys.readouterr().err == ""


def test_a_resumed_run_keeps_its_store_on_this_machine(place, capsys):
    Path("checkpoints").mkdir()
    Path(".hydra").mkdir()
    Path("checkpoints/last.ckpt").touch()
    kept = [f"tracking.uri='sqlite:///{place}/mlruns/mlflow.db'", "tracking.experiment=x"]
    Path(".hydra/overrides.yaml").write_text(yaml.safe_dump(kept))
    assert run_folder.with_old_overrides([f"ckpt={place}/checkpoints/last.ckpt"])[:2] == kept
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "text",
    [
        "- --config-dir=/tmp/evil", "- -m", "- hydra.searchpath=[file:///tmp/evil]", "- +hydra/launcher=x",
        "- ++hydra.x=1", "loss=ce", "- 5", "- [a]", "{a: b}", "- {a: b}", "[" * 100_000, "a: [", "\x00",
        "- !!python/object:os.x {}", "&a [*a]",
    ],
)  # fmt: skip
def test_a_record_of_anything_but_settings_is_one_line(tmp_path, text):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / ".hydra" / "overrides.yaml").write_text(text)
    with pytest.raises(InputError) as said:
        run_folder.with_old_overrides([f"ckpt={tmp_path}/checkpoints/last.ckpt"])
    assert str(said.value).startswith(f"{tmp_path}/.hydra/overrides.yaml: ")
    assert "\n" not in str(said.value)


def test_a_train_that_resumes_a_hostile_run(hostile, listener, secrets, launch):

    record = (
        yaml.safe_load((hostile / ".hydra" / "overrides.yaml").read_text()) if (hostile / ".hydra").is_dir() else []
    )
    (hostile / ".hydra").mkdir(exist_ok=True)
    (hostile / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump([*record, f"tracking.uri={listener.address}"]))
    ended = launch("train", f"ckpt={hostile}/checkpoints/last.ckpt")
    assert ended.code == 2  # all epochs are done, or a setting differs: said before, and after, nobody was asked
    assert any("not used (tracking.uri=ADDRESS uses it)" in line for line in ended.err)
    assert listener.seen == []


def test_a_cross_validation_record_and_a_report_choose_no_store(alone, place, listener, secrets):
    """Both hand what their file says to open_run; a file may hold any JSON."""
    record = json.loads(json.dumps({"run_id": "1" * 32, "uri": listener.address}))
    run = open_run(tracking(), Path("cv"), "cv", record["run_id"], record["uri"])
    run.close()
    assert run.run_id != record["run_id"]
    assert listener.seen == []


def test_a_sweep_chooses_no_store(place, listener, secrets, capsys):
    from types import SimpleNamespace

    from koa_lightning.sweeps.report import _parent_run

    study = SimpleNamespace(user_attrs={"koa_parent_run": "0" * 32, "koa_tracking_uri": listener.address})
    assert _parent_run(tracking(), study, Path("report")) is None
    assert f"WARNING: {listener.address}, where it was tracked, is neither" in capsys.readouterr().err
    assert listener.seen == []


def test_neither_a_command_to_reproduce_nor_a_trial_names_a_store(log_run):
    from koa_lightning.sweeps import best
    from koa_lightning.tracking import repeat

    items = ["loss=ce", "tracking.uri=http://evil", "++tracking={uri:'http://evil'}", "+tracking.uri=http://evil"]
    tags = {"command": "python -m koa_lightning.train " + " ".join(f'"{item}"' for item in items)}
    run = log_run.client.get_run(log_run("old", tags=tags))
    assert repeat.overrides_of(run) == ["loss=ce"]
    assert best.of_trial(items) == ["loss=ce"]
