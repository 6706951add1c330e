"""A store that fails when told so."""

import threading

import pytest
from mlflow.exceptions import MlflowException

from koa_lightning.tracking.run import start_run


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
