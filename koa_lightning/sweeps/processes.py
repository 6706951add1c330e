"""Run work in separate processes: a fault ends one piece alone, its memory is freed, and all end with this process.

No heavy imports here: each piece imports what it needs in its own process.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

from koa_lightning.config import ending, environment, folders, signals
from koa_lightning.config.allocator import tune_allocator
from koa_lightning.config.outcome import INTERRUPTED

# A fresh interpreter each time: a fork would inherit the threads and locks of torch and MLflow half-made.
_CONTEXT = multiprocessing.get_context("spawn")


class Piece(NamedTuple):
    """A piece of work.

    Attributes:
        argument: Argument of the function; it must pickle.
        log: File for the output of the piece; None means this process's own output.
    """

    argument: Any
    log: Path | None = None


class _Running(NamedTuple):
    process: Any
    ready: connection.Connection


def run_all(
    function: str,
    pieces: Mapping[int, Piece] | Callable[[], tuple[int, Piece] | None],
    parallel: int,
    ended: Callable[[int, int], bool],
) -> dict[int, int]:
    """Run pieces of work, each in a process of its own; return the exit code of each one started.

    Args:
        function: `module:name` of a function of one argument that returns an exit code.
        pieces: In the order in which they begin; or a function that returns the next one with its key whenever there
            is room, and None if there is none now.
        parallel: How many may run at a time; they share the cores.
        ended: Called with the key and exit code of each piece that ends (minus the signal number if a signal ended it);
            returns whether further pieces may begin.

    Raises:
        KeyboardInterrupt: On Ctrl-C or a signal, after every piece has ended on request; a second one kills them.
    """
    running, codes, more = dict[int, _Running](), dict[int, int](), True
    rest = iter(()) if callable(pieces) else iter(pieces.items())
    take = pieces if callable(pieces) else lambda: next(rest, None)
    try:
        while True:
            while more and len(running) < parallel and (following := take()) is not None:
                with environment.variables(**environment.shared_cores(parallel)):
                    _start(function, following[0], following[1], running)
            if not running:
                break
            connection.wait([piece.process.sentinel for piece in running.values()])
            for key in [key for key, piece in running.items() if not piece.process.is_alive()]:
                codes[key] = running.pop(key).process.exitcode
                more = ended(key, codes[key]) and more
    except KeyboardInterrupt:
        _interrupt(running)
        raise
    finally:
        for piece in running.values():
            piece.process.kill()
    return codes


def _start(function: str, key: int, piece: Piece, running: dict[int, _Running]) -> None:
    ready, send = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_work, args=(function, piece, send, folders.typed()))
    # Ctrl-C in a terminal goes to every process; while a piece starts, this process passes it on (`_interrupt`).
    with signals.held():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
            send.close()
            running[key] = _Running(process, ready)  # before Ctrl-C can arrive: `_interrupt` must know of every piece
        finally:
            signal.signal(signal.SIGINT, before)


def _interrupt(running: Mapping[int, _Running]) -> None:
    try:
        for piece in running.values():
            if piece.ready.poll() and piece.process.is_alive():
                os.kill(piece.process.pid, signals.received() or signal.SIGINT)
            else:  # it has not begun, so there is nothing to save
                piece.process.terminate()
        for piece in running.values():
            piece.process.join(signals.seconds_left(signals.CHILD_SECONDS))  # then it is killed; its checkpoint exists
    except KeyboardInterrupt:
        for piece in running.values():
            piece.process.kill()
            piece.process.join()


def _work(function: str, piece: Piece, ready: connection.Connection, configs: Sequence[Path]) -> None:
    """Do one piece, in its own process, with the `--config-dir` of the process that began it."""
    ending.hasten()
    tune_allocator()
    try:
        folders.use(configs)
        os.setpgid(0, 0)  # Ctrl-C reaches it only once, through its parent
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals.install()
        threading.Thread(target=_end_with_parent, daemon=True).start()
        if piece.log is not None:
            print_to(piece.log)
        ready.send(True)
        module, name = function.split(":")
        sys.exit(getattr(importlib.import_module(module), name)(piece.argument))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _end_with_parent() -> None:
    """End this process if its parent was killed, as nobody waits for it any more."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def print_to(log: Path) -> None:
    """Append the output of this process to a file from now on.

    Args:
        log: The file; its folder is created.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, sys.stdout.fileno())
    os.dup2(file, sys.stderr.fileno())
    os.close(file)
