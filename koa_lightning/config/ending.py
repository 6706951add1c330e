"""The end of a process, without seconds of garbage collection. No heavy imports here."""

from __future__ import annotations

import atexit
import gc


def hasten() -> None:
    """Let this process end without delay.

    At exit Python searches all objects for cycles, several times. With torch and MLflow this takes seconds, and the
    sender of a signal may lose patience. The system reclaims the memory anyway.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
