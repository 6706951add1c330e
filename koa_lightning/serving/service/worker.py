"""A worker process: one pipe to the service, with LitServe's worker function behind it. No heavy imports here."""

from __future__ import annotations

import multiprocessing
import pickle
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from koa_lightning.config.allocator import tune_allocator

READY, FAILED = "ready", "failed"


class Pipe:
    """The worker's end of its pipe; to LitServe it is a queue of requests, a transport and a table of states.

    Args:
        connection: The worker's end.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def get(self) -> Any:
        """Return the next batch; None if the service has ended."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def send(self, item: Any, consumer_id: int) -> None:
        """Send the results of a batch."""
        self.connection.send(item)

    def __setitem__(self, worker: str, state: Any) -> None:
        """Report that the worker is set up or failed; LitServe writes this state into a table."""
        self.connection.send(READY if getattr(state, "value", state) == "ready" else FAILED)


class _NoCallbacks:
    """LitServe's callbacks, of which there are none."""

    def trigger_event(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


def start(api: bytes, device: str, number: int) -> tuple[SpawnProcess, Connection]:
    """Start a worker; it sends `READY` or `FAILED`, then a list of results for each list of jobs.

    Args:
        api: A pickled `koa_lightning.serving.service.grader.GraderAPI`.
        device: Device of torch, or `auto`.
        number: Number of the worker.
    """
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(api, device, number, theirs), name=f"grader-{number}", daemon=True)
    process.start()
    theirs.close()  # otherwise the pipe would outlive the worker
    return process, ours


def _run(api: bytes, device: str, number: int, connection: Connection) -> None:
    tune_allocator()
    from litserve.loops import inference_worker

    pipe = Pipe(connection)
    inference_worker(pickle.loads(api), device, number, pipe, pipe, pipe, _NoCallbacks(), False)
