"""A ready store for each test: the database is made once and copied."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

import koa_lightning
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store


@pytest.fixture(scope="session")
def ready_database(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # one for all workers; open_store lets the others wait
    open_store(f"sqlite:///{base}/ready/mlflow.db", base)
    return base / "ready" / "mlflow.db"


@pytest.fixture
def with_package():
    """The environment of a process that imports the package as this one does."""
    return os.environ | {"PYTHONPATH": str(Path(koa_lightning.__file__).parents[1])}


@pytest.fixture
def store(ready_database, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "with space" / "mlruns"
    folder.mkdir(parents=True)
    shutil.copy(ready_database, folder)
    return open_store(None, folder)


class FlakyClient:
    """A real client that fails as one of a dead server does, or is slow, when told so."""

    def __init__(self, client):
        self._client = client
        self.down = False
        self.open = threading.Event()
        self.open.set()
        self.batches = []

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **kwargs):
            assert self.open.wait(20)
            if self.down:
                raise MlflowException("API request to http://x failed with exception: refused")
            if name == "log_batch":
                self.batches.append(kwargs)
            return method(*args, **kwargs)

        return call


@pytest.fixture
def client(store):
    return FlakyClient(store.client())


@pytest.fixture
def begin(store, client, tmp_path):
    """Start a run of the experiment `knees` in the folder `run`."""

    def start(name="first", **more):
        return start_run(store, "knees", name, tmp_path / "run", client=client, **more)

    return start
