"""The end of a process, without seconds in which Python looks through all objects. No heavy imports here."""

from __future__ import annotations

import atexit
import gc


def hasten() -> None:
    """Let this process end at once when it ends.

    On its way out Python looks for cycles among all objects, several times: with torch and MLflow that takes seconds,
    in which a signal's sender loses patience. The system takes the memory back anyway.
    """
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
