"""The further processes of a training on several devices: the first process starts, watches and ends them.

Lightning would run the command line again, which in a sweep is the whole sweep. Here each process gets the resolved
config, so a training can use several devices wherever it is called: from a command, a job of a sweep, a fold, or
Python.
"""

from __future__ import annotations

import base64
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import distributed

import koa_lightning
from koa_lightning.config import folders
from koa_lightning.config.compose import plain
from koa_lightning.config.outcome import PARTLY, say_error
from koa_lightning.errors import InputError, LostProcessError

GRACE = 10.0
"""Seconds that this process has to end by itself after another one died; then it is killed."""
_END = 20.0  # seconds that the others have to end after a training
_OWN = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Ranks:
    """The other processes of one training.

    Args:
        n: Number of processes, including this one.
        task: Data for the others; must be picklable.
        folder: The run folder, for the output of the others.
        lost: Called before this process is killed because it does not end by itself.
    """

    def __init__(self, n: int, task: Mapping[str, Any], folder: Path, lost: Callable[[], Any]) -> None:
        self.n, self.folder, self._lost = n, folder, lost
        self._over = threading.Event()
        self.failure: Exception | None = None
        self.logs = [folder / f".rank_{rank}.log" for rank in range(1, n)]
        packed = base64.b64encode(pickle.dumps({**task, "folders": folders.typed(), "path": sys.path})) + b"\n"
        self._processes = [_begin(rank, log, packed) for rank, log in enumerate(self.logs, 1)]
        self._watch = threading.Thread(target=self._watched, daemon=True)
        self._watch.start()

    def why(self, error: BaseException, seconds: float = 5.0) -> BaseException:
        """Return why a training failed: another process died, or else the error itself."""
        if isinstance(error, InputError | KeyboardInterrupt):
            return error
        until = time.monotonic() + seconds
        while self.failure is None and time.monotonic() < until:
            time.sleep(0.05)  # the watcher notices its end a moment after it falls silent
        return self.failure or error

    def end(self, seconds: float, kept: bool) -> None:
        """Let the others end, and kill those that do not.

        Args:
            seconds: Time that they have.
            kept: Whether their output stays in the run folder.
        """
        self._over.set()
        until = time.monotonic() + seconds
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._watch.join()
        if not kept:
            for log in self.logs:
                log.unlink(missing_ok=True)

    def _watched(self) -> None:
        """Wait until a process dies; then kill this one, which waits for it, unless it ends by itself."""
        while self.failure is None:
            if self._over.wait(0.1):
                return
            codes = {rank: process.poll() for rank, process in enumerate(self._processes, 1)}
            if bad := {rank: code for rank, code in codes.items() if code}:
                rank, code = next(iter(bad.items()))
                self.failure = _failure(rank, self.n, code, self.logs[rank - 1])
        if self._over.wait(GRACE):
            return
        say_error(str(self.failure))
        try:
            self._lost()
        finally:
            for process in self._processes:
                process.kill()
            os._exit(PARTLY)


def _begin(rank: int, log: Path, packed: bytes) -> subprocess.Popen[bytes]:
    here = str(Path(koa_lightning.__file__).parents[1])
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "koa_lightning.training.rank"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LOCAL_RANK": str(rank), "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C reaches the first process alone
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it died at once: the watcher sees that
        process.stdin.write(packed)
        process.stdin.flush()  # it stays open: when it closes, the other knows that this process died
    return process


def _failure(rank: int, n: int, code: int, log: Path) -> Exception:
    """Return why another process died: its own error line if it printed one."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if said:
        return InputError(said[-1])
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}, see {log}"
    return LostProcessError(
        f"process {rank} of processes 0 to {n - 1} {how}; all of them have ended, and ckpt=last resumes the run"
    )


def begin(
    n: int,
    cfg: DictConfig,
    precision: str,
    reporter: Callable[..., Any] | None,
    folder: Path,
    lost: Callable[[], Any],
) -> Ranks:
    """Start the further processes of a training.

    Args:
        n: Number of processes, including this one.
        cfg: The config `train`.
        precision: The chosen one; otherwise each process would choose for itself.
        reporter: Makes the callback of a job of a sweep.
        folder: The run folder.
        lost: See `Ranks`.
    """
    settings = plain(cfg)
    settings["trainer"]["precision"] = precision
    return Ranks(n, {"config": settings, "reporter": reporter}, folder, lost)


@contextmanager
def together(n: int, begin: Callable[[], Ranks]) -> Iterator[None]:
    """Run further processes during a training; do nothing with one device, or in a process that another one started.

    Args:
        n: Devices.
        begin: Starts them, after the environment variables with rank and address are set.

    Raises:
        InputError: Another process stopped because of a problem that the user can fix.
        LostProcessError: Another process died.
    """
    if n == 1 or "LOCAL_RANK" in os.environ:
        yield
        return
    before = {name: os.environ.get(name) for name in _OWN}
    os.environ |= {"LOCAL_RANK": "0", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    ranks, ended, kept = None, False, False
    try:
        ranks = begin()
        yield
        ended = True
    except Exception as error:
        kept = True
        if ranks is None or (why := ranks.why(error)) is error:
            raise
        raise why from error
    finally:
        if ranks is not None:
            ranks.end(_END if ended else 0, kept)
        leave()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def leave() -> None:
    """Leave the group of processes, so that a later training of this process makes one of its own."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
