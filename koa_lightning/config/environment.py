"""Variables of the environment that hold for a while: what a process begins meanwhile gets them, nothing later does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_THREADS = "OMP_NUM_THREADS"


@contextmanager
def variables(**values: str) -> Iterator[None]:
    """Set variables of this process's environment; afterwards each is as it was.

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
    """Return the variables by which n processes side by side share the cores; none for one, or where they are set.

    Args:
        n: Processes at a time; each would take all cores.
    """
    if n == 1 or _THREADS in os.environ:
        return {}
    return {_THREADS: str(max(1, (os.cpu_count() or 1) // n))}
