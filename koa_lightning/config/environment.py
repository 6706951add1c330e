"""Temporary environment variables: only processes started meanwhile inherit them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS = "OMP_NUM_THREADS"


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """Set variables of this process's environment and restore them afterwards.

    Args:
        values: By name.
    """
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def shared_cores(n: int) -> dict[str, str]:
    """Return the variables that divide the cores among n processes; none for one process, or if they are already set.

    Args:
        n: Processes at a time; each would otherwise take all cores.
    """
    if n == 1 or _THREADS in os.environ:
        return {}
    return {_THREADS: str(max(1, (os.cpu_count() or 1) // n))}
