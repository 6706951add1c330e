"""Signals that end a command: from a closed terminal, the system or a cluster. No heavy imports here.

Nothing else in the package installs handlers. A signal ends a command as Ctrl-C does, by a KeyboardInterrupt, but a
running batch is finished first, the end has a time limit, and the exit code identifies the signal.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from koa_lightning.config.outcome import INTERRUPTED

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
HELD_SECONDS = 3.0
"""Seconds that a running batch has to finish by itself."""
CLOSE_SECONDS = 8.0
"""Seconds after the signal at which the store is no longer waited for."""
CHILD_SECONDS = 6.0
"""The same for child processes: this process closes its own run after them, within 10 seconds in all."""
_SAME_SECONDS = 5.0  # a cluster signals every process of a job, and some clusters signal twice


class _State:
    """Signals received by this process."""

    number: int | None = None
    at: float = 0.0
    holds: int = 0
    process: int = 0  # id of the process whose handlers are installed


def received() -> int | None:
    """Return the signal that ends this process, or None (Ctrl-C does not count)."""
    return _State.number


def is_installed() -> bool:
    """Tell whether this process handles the signals; a user's program that calls the package may not want that."""
    return _State.process == os.getpid()


def exit_code() -> int:
    """Return the exit code of an interrupted command: 128 plus the signal, 130 for Ctrl-C."""
    return INTERRUPTED if _State.number is None else 128 + _State.number


def seconds_left(limit: float = CLOSE_SECONDS) -> float | None:
    """Return how long this process may still wait for others; None: without limit.

    Args:
        limit: Seconds since the signal.
    """
    return None if _State.number is None else max(0.5, _State.at + limit - time.monotonic())


@contextmanager
def installed() -> Iterator[None]:
    """Handle the signals meanwhile, except those that the parent process has disabled, as `nohup` does.

    Only the main thread can; in another one this has no effect.
    """
    before = {number: signal.getsignal(number) for number in (*ENDING, signal.SIGALRM)}
    _State.number, _State.holds, _State.process = None, 0, os.getpid()
    try:
        install()
        yield
    finally:
        _State.process = 0
        let_go()
        for number, handler in before.items():
            _set(number, handler)


def install() -> None:
    """Install the handlers, or restore them after a library has installed its own."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            _set(number, _end)
    _set(signal.SIGALRM, _interrupt)
    _State.process = os.getpid()


@contextmanager
def held() -> Iterator[None]:
    """Let a piece of work finish before a signal takes effect, within `HELD_SECONDS`."""
    hold()
    try:
        yield
    finally:
        release()


def hold() -> None:
    """Begin a piece of work that a signal allows to finish, within `HELD_SECONDS`."""
    _State.holds += 1


def release() -> None:
    """End that piece of work; a signal received meanwhile takes effect now.

    Raises:
        KeyboardInterrupt: A signal was received.
    """
    _State.holds = max(0, _State.holds - 1)
    if _State.number is not None and not _State.holds and _pending():
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt


def let_go() -> None:
    """Forget all pieces of work, including interrupted ones."""
    _State.holds = 0
    signal.setitimer(signal.ITIMER_REAL, 0)


def _pending() -> bool:
    """Tell whether a signal is waiting for a piece of work to finish."""
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _end(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:  # a fork has nothing to save
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    now = time.monotonic()
    if _State.number is not None and now < _State.at + _SAME_SECONDS:
        return
    _State.number, _State.at = number, now
    if _State.holds:
        signal.setitimer(signal.ITIMER_REAL, HELD_SECONDS)
    else:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Interrupt a piece of work whose time is up."""
    _State.holds = 0
    raise KeyboardInterrupt


def _set(number: int, handler: Any) -> None:
    try:
        signal.signal(number, handler)
    except ValueError:  # not in the main thread
        return
