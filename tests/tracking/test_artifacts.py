"""A database that names another place for the artifacts of its runs."""

import sqlite3

import pytest

from koa_lightning.errors import InputError
from koa_lightning.tracking.artifacts import check, check_path
from koa_lightning.tracking.checkpoints import find_checkpoint
from koa_lightning.tracking.resend import main
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.spool import Spool

DATABASE = "sqlite:////data/knees/mlflow.db"
SERVER = "http://me:pw@knees.example.org:5000"


@pytest.mark.parametrize(
    ("store", "location"),
    [
        (DATABASE, "file:///data/knees/artifacts/1/x/artifacts"), (DATABASE, "/data/knees/artifacts/1"),
        (DATABASE, "file:///data/knees/with%20space"), (DATABASE, "mlruns/0/x"), (DATABASE, "./mlruns/0"),
        (SERVER, "mlflow-artifacts:/1/x/artifacts"), (SERVER, "mlflow-artifacts://knees.example.org:5000/1"),
        (SERVER, "http://knees.example.org:5000/api/2.0/x"), (SERVER, "s3://bucket/x"), (SERVER, "gs://bucket/x"),
        ("http://127.0.0.1:5000", "file:///any/where"), ("http://localhost:5000", "/any/where"),
    ],
)  # fmt: skip
def test_own_places(store, location):
    check(store, location, "run")


@pytest.mark.parametrize(
    ("store", "location"),
    [
        (DATABASE, "http://evil.example/x"), (DATABASE, "https://evil.example/x"), (DATABASE, "s3://evil/x"),
        (DATABASE, "ftp://me:pw@evil/x"), (DATABASE, "mlflow-artifacts:/x"), (DATABASE, "file:///etc"),
        (DATABASE, "/data/knees2/x"), (DATABASE, "file:///data/knees/../x"), (DATABASE, "file:///data/knees/%2e%2e/x"),
        (DATABASE, "file://evil/data/knees/x"), (DATABASE, "../x"), (DATABASE, "mlruns/../.ssh"), (DATABASE, "~/.ssh"),
        (DATABASE, "//evil/share"), (DATABASE, "hdfs://evil/x"), (DATABASE, "HTTP://evil/x"), (DATABASE, "runs:/x"),
        (SERVER, "http://evil.example/x"), (SERVER, "https://knees.example.org/x"),
        (SERVER, "http://knees.example.org:5000@evil.example/x"), (SERVER, "mlflow-artifacts://evil.example/x"),
        (SERVER, "file:///home/me/.ssh"), (SERVER, "/home/me"), (SERVER, "ftp://evil/x"), (SERVER, "sftp://evil/x"),
        (SERVER, "dbfs2://x"), ("http://127.0.0.1:5000", "http://127.0.0.1:5001/x"),
    ],
)  # fmt: skip
def test_other_places(store, location):
    with pytest.raises(InputError, match=r"^run 7: its artifacts lie in .*; nothing is read or written there") as given:
        check(store, location, "run 7")
    assert "pw" not in str(given.value)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../x", "/etc/passwd", "", "C:/x", "C:\\x", "\\\\evil\\x", "a\n"])
def test_paths_that_climb(path):
    with pytest.raises(InputError, match="is not a path among the artifacts of a run"):
        check_path(path, "entry")


@pytest.fixture
def redirect(store):
    """Let the database name another place for the artifacts of its runs, as whoever sends it may."""

    def change(location, experiments=False):
        with sqlite3.connect(store.uri.removeprefix("sqlite:///")) as database:
            database.execute("UPDATE runs SET artifact_uri = ?", (location,))
            if experiments:
                database.execute("UPDATE experiments SET artifact_location = ?", (location,))
        database.close()

    return change


@pytest.fixture
def run_id(store, tmp_path):
    run = store.client().create_run(store.experiment_id("knees")).info.run_id
    (tmp_path / "best.ckpt").write_text("x")
    store.client().log_artifact(run, str(tmp_path / "best.ckpt"), "checkpoints")
    return run


def outside(tmp_path, listener):
    return [f"{listener.address}/x", (tmp_path / "elsewhere").as_uri(), str(tmp_path / "elsewhere")]


def test_nothing_goes_where_a_database_says(store, run_id, redirect, listener, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    text = {"op": "text", "text": "x", "file": "x.txt"}
    for location in outside(tmp_path, listener):
        redirect(location)
        with pytest.raises(InputError, match="its artifacts lie in"):
            start_run(store, "knees", None, tmp_path / "run", run_id=run_id, attach=True)
        with pytest.raises(InputError, match="its artifacts lie in"):
            find_checkpoint(f"runs:/{run_id}", store.uri)
        client = store.client()
        for method, *more in (
            ("log_text", "x", "x.txt"), ("log_artifacts", str(tmp_path)), ("log_artifact", str(tmp_path / "best.ckpt")),
            ("list_artifacts",), ("download_artifacts", "x.txt", str(tmp_path)),
        ):  # fmt: skip
            with pytest.raises(InputError, match="its artifacts lie in"):
                getattr(client, method)(run_id, *more)
        spool = Spool(tmp_path / "waits", run_id, store.uri)
        spool.append([text])
        assert main([str(tmp_path / "waits")]) == 2
        assert "its artifacts lie in" in capsys.readouterr().err
        assert spool.read() == [text]
        spool.replace([])
    assert listener.seen == []
    assert not (tmp_path / "elsewhere").exists()


def test_no_run_is_made_where_an_experiment_says_so(store, run_id, redirect, listener, tmp_path):
    for location in outside(tmp_path, listener):
        redirect(location, experiments=True)
        with pytest.raises(InputError, match=r"^experiment 'knees' in .*: its artifacts lie in"):
            start_run(store, "knees", None, tmp_path / "run")
    assert len(store.client().search_runs([store.client().get_experiment_by_name("knees").experiment_id])) == 1
    assert listener.seen == []


def test_nothing_is_deleted_where_a_database_says(store, run_id, redirect, tmp_path):
    from koa_lightning.tracking.prune import Candidate, remove

    client = store.client()
    client.set_terminated(run_id)
    kept = tmp_path / "elsewhere" / "checkpoints" / "best.ckpt"
    kept.parent.mkdir(parents=True)
    kept.touch()
    redirect((tmp_path / "elsewhere").as_uri())
    with pytest.raises(InputError, match="its artifacts lie in"):
        remove(client, Candidate(client.get_run(run_id), 0.5, "", 1, None, 0))
    assert kept.exists()


def test_a_checkpoint_is_one_of_the_run(store, run_id):
    assert find_checkpoint(f"runs:/{run_id}", store.uri).read_text() == "x"
    for path in ("../best.ckpt", "checkpoints/../../../../x", "checkpoints/..", "a\\..\\..\\x"):
        with pytest.raises(InputError, match="is not a path among the artifacts"):
            find_checkpoint(f"runs:/{run_id}/{path}", store.uri)


def test_a_registered_model_names_a_checkpoint_of_its_run(store, run_id):
    client = store.client()
    client.create_registered_model("grader")
    evil = {"checkpoint": "../../../../../etc/passwd"}
    client.create_model_version("grader", f"runs:/{run_id}/model", run_id, tags=evil)
    with pytest.raises(InputError, match="is not a path among the artifacts"):
        find_checkpoint("models:/grader/1", store.uri)
