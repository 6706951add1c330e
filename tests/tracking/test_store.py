import errno
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.engine import Engine

from koa_lightning.errors import InputError
from koa_lightning.tracking import store as store_module
from koa_lightning.tracking.store import Store, cause, first_line, open_store, public


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_default_is_a_database_with_absolute_paths(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "with space")
    assert open_store(None, Path("mlruns")) == store
    assert store.uri == f"sqlite:///{tmp_path}/with space/mlruns/mlflow.db"
    assert store.artifacts == tmp_path / "with space" / "mlruns" / "artifacts"


def test_mlflows_variable_is_the_default(store, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert open_store(None, tmp_path / "elsewhere") == store
    assert not (tmp_path / "elsewhere").exists()


def test_experiment_is_made_once_with_its_artifacts_beside_the_database(store):
    first = store.experiment_id("knees")
    assert store.experiment_id("knees") == first
    assert store.client().get_experiment(first).artifact_location == store.artifacts.as_uri()


def test_experiment_made_by_another_job_meanwhile_is_taken(store, monkeypatch):
    other = store.experiment_id("knees")
    client = store.client()
    seen = []
    real = client.get_experiment_by_name

    def late(name):
        seen.append(name)
        return None if len(seen) == 1 else real(name)

    monkeypatch.setattr(client, "get_experiment_by_name", late)
    monkeypatch.setattr(Store, "client", lambda self: client)
    assert store.experiment_id("knees") == other
    assert len(seen) == 2


def test_deleted_experiment_names_the_way_back(store):
    identity = store.experiment_id("knees")
    store.client().delete_experiment(identity)
    with pytest.raises(InputError, match=rf"was deleted.*restore -x {identity}"):
        store.experiment_id("knees")


@pytest.mark.parametrize("uri", ["mlruns", "file:./mlruns", "/data/mlruns", "postgresql://h/db", "databricks"])
def test_other_kinds_of_uri_say_what_to_type(uri, tmp_path):
    with pytest.raises(InputError, match=r"must be sqlite:///FILE.db or http.*type tracking.uri=sqlite:///"):
        open_store(uri, tmp_path)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_database_must_be_a_file(uri, tmp_path):
    with pytest.raises(InputError, match="must name a file"):
        open_store(uri, tmp_path)


def test_a_missing_database_is_not_made_for_reading(tmp_path):
    with pytest.raises(InputError, match="no such tracking database"):
        open_store(None, tmp_path / "mlruns", create=False)
    assert not (tmp_path / "mlruns").exists()


def test_damaged_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be read as a header of one" * 100)
    with pytest.raises(InputError, match="file is not a database") as caught:
        open_store(None, tmp_path)
    assert "\n" not in str(caught.value)


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"Not a directory.*tracking=none"):
        open_store(None, tmp_path / "file" / "mlruns")


def test_full_disk_is_one_line_and_leaves_nothing_half_made(tmp_path, monkeypatch):
    def full(engine):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, "_initialize_tables", full)
    with pytest.raises(InputError, match="No space left on device"):
        open_store(None, tmp_path)
    assert not (tmp_path / "mlflow.db").exists()


def test_dead_server_is_one_line(tmp_path):
    port = closed_port()
    with pytest.raises(InputError, match=rf"127.0.0.1:{port}: .*refused.*start it, or type tracking=none"):
        open_store(f"http://me:secret@127.0.0.1:{port}", tmp_path)


def test_silent_server_is_given_up_in_time(monkeypatch):
    def silent(*args, **kwargs):
        threading.Event().wait(30)
        raise requests.ConnectionError("no answer")  # in a thread that nobody waits for any more

    monkeypatch.setattr(store_module, "http_request", silent)
    assert store_module.why_unreachable("http://x", seconds=0.05) == "no answer within 0.05 seconds"


def test_a_server_whose_store_hangs_counts_as_dead(monkeypatch):
    def request(creds, path, *arguments, **options):
        if path != "/health":
            raise MlflowException(f"no answer from {path}")
        return SimpleNamespace(status_code=200)

    monkeypatch.setattr(store_module, "http_request", request)
    assert "experiments/search" in store_module.why_unreachable("http://x")


def test_gateway_without_its_server_counts_as_dead(monkeypatch):
    class Reply:
        status_code = 503

    monkeypatch.setattr(store_module, "http_request", lambda *a, **k: Reply())
    assert store_module.why_unreachable("http://x") == "it says 503"
    Reply.status_code = 401
    assert store_module.why_unreachable("http://x") == ""


def test_no_password_is_said():
    assert public("http://me:secret@host:5000/x") == "http://host:5000/x"
    assert first_line(ValueError("http://me:secret@host\nmore")) == "http://host"


def test_a_failed_request_says_only_why():
    chain = "API request failed: Max retries exceeded with url: /health (Caused by "
    refused = chain + "NewConnectionError('x: Failed to establish: [Errno 111] Connection refused'))"
    late = chain + """ReadTimeoutError("x: Read timed out. (read timeout=3)"))"""
    assert cause(OSError(refused)) == "[Errno 111] Connection refused"
    assert cause(OSError(late)) == "Read timed out. (read timeout=3)"
    assert cause(OSError("disk: full")) == "disk: full"


@pytest.mark.slow
def test_processes_that_start_together_share_one_database(tmp_path, with_package):
    code = (
        "from pathlib import Path; from koa_lightning.tracking.store import open_store;"
        "print('id', open_store(None, Path('mlruns')).experiment_id('knees'))"
    )
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=with_package
        )
        for _ in range(3)
    ]
    answers = {job.communicate()[0].strip().splitlines()[-1] for job in jobs}
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("pragma", "line"),
    [
        ("query_only = ON", "attempt to write a readonly database"),
        ("max_page_count = 1", "database or disk is full"),
    ],
)
def test_a_database_that_takes_nothing_is_one_line(ready_database, place, launch, tiny, pragma, line):
    shutil.copy(ready_database, place / "other.db")
    limit = ("connect", lambda connection, _: connection.execute(f"PRAGMA {pragma}"))
    event.listen(Engine, *limit)
    try:
        long = f"+tracking.tags.note={'x' * 7900}"  # more than the pages have room for
        ended = launch("train", *tiny.overrides, "tracking.uri=sqlite:///other.db", long)
    finally:
        event.remove(Engine, *limit)
    assert ended.code == 2, ended.err
    assert len(ended.err) == 1 and ended.err[0].startswith("error: ") and line in ended.err[0]


def test_a_folder_in_place_of_a_database(tmp_path):
    with pytest.raises(InputError, match=rf"^tracking\.uri=sqlite:///{tmp_path}: is a folder; name a file in it: "):
        open_store(f"sqlite:///{tmp_path}", tmp_path)
