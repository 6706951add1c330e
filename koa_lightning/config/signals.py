"""Signals that end a command: of a closed terminal, of the system, of a cluster. No heavy imports here.

Nothing else in the package installs handlers. A signal ends a command as Ctrl-C does, by a KeyboardInterrupt, except
that a batch under way is finished first, that the end has a time limit, and that the exit code names the signal.
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
"""What a batch under way is given to end by itself."""
CLOSE_SECONDS = 8.0
"""From the signal on, the time after which the store is not waited for any more."""
CHILD_SECONDS = 6.0
"""The same for processes that this one has begun: it closes its own run after them, and ends within 10 seconds."""
_SAME_SECONDS = 5.0  # a cluster sends a signal to every process of a job, some send two in a row


class _State:
    """What has come to this process."""

    number: int | None = None
    at: float = 0.0
    holds: int = 0
    process: int = 0  # whose handlers are in place


def received() -> int | None:
    """Return the signal that ends this process, None before one came (Ctrl-C is not among them)."""
    return _State.number


def is_installed() -> bool:
    """Tell whether this process answers the signals; one of the user's own that calls the package may not want it."""
    return _State.process == os.getpid()


def exit_code() -> int:
    """Return the exit code of an interrupted command: 128 and the signal, 130 of Ctrl-C."""
    return INTERRUPTED if _State.number is None else 128 + _State.number


def seconds_left(limit: float = CLOSE_SECONDS) -> float | None:
    """Return how long this process may still wait for others; None: as long as need be.

    Args:
        limit: Seconds from the signal on.
    """
    return None if _State.number is None else max(0.5, _State.at + limit - time.monotonic())


@contextmanager
def installed() -> Iterator[None]:
    """Answer the signals meanwhile, except those that whoever started the process has it ignore, as `nohup` does.

    Only the main thread can; from another one nothing changes.
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
    """Put the handlers in place, or back where a library has put its own."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            _set(number, _end)
    _set(signal.SIGALRM, _interrupt)
    _State.process = os.getpid()


@contextmanager
def held() -> Iterator[None]:
    """Let a piece of work end before a signal counts, if it does so within `HELD_SECONDS`."""
    hold()
    try:
        yield
    finally:
        release()


def hold() -> None:
    """Begin a piece of work that a signal lets end, for `HELD_SECONDS`."""
    _State.holds += 1


def release() -> None:
    """End that piece of work; a signal that came meanwhile counts now.

    Raises:
        KeyboardInterrupt: One came.
    """
    _State.holds = max(0, _State.holds - 1)
    if _State.number is not None and not _State.holds and _pending():
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt


def let_go() -> None:
    """Forget what was held; what ended it in the middle has said so."""
    _State.holds = 0
    signal.setitimer(signal.ITIMER_REAL, 0)


def _pending() -> bool:
    """Tell whether the signal waits for a piece of work to end."""
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _end(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _State.process:  # a fork, in which nothing is to be kept
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
    """End what was given its time."""
    _State.holds = 0
    raise KeyboardInterrupt


def _set(number: int, handler: Any) -> None:
    try:
        signal.signal(number, handler)
    except ValueError:  # not in the main thread
        return
