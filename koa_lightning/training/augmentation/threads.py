"""Parts of a batch on several CPU threads, each of which does one part from its first operation to its last."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}  # by process and number of threads


def for_each(function: Callable[[int], None], numbers: Iterable[int]) -> None:
    """Call a function with each number, on as many threads as torch has; what it computes records no gradients.

    Torch's own way, all threads in each operation, has them wait for one another after each of many short operations,
    which on a busy machine takes longer than the work.

    Args:
        function: Must not depend on the order of calls.
        numbers: One a call.
    """
    n = torch.get_num_threads()
    if n == 1:
        for number in numbers:
            function(number)
        return

    def without_gradients(number: int) -> None:
        with torch.no_grad():
            function(number)

    for _ in _pool(n).map(without_gradients, numbers):  # raises what one of them raised
        pass


def _pool(n: int) -> ThreadPoolExecutor:
    """Return n threads, in each of which torch computes on that thread alone."""
    key = (os.getpid(), n)  # threads do not outlive a fork
    if key not in _pools:
        pool = ThreadPoolExecutor(n, thread_name_prefix="augment", initializer=_compute_alone)
        for _ in pool.map(_wait_for_all(n), range(n)):
            pass
        torch.set_num_threads(n)  # of this thread, and of those to come
        _pools[key] = pool
    return _pools[key]


def _wait_for_all(n: int) -> Callable[[int], None]:
    """Return a function that ends once n threads have called it, so that each of them has started."""
    barrier = threading.Barrier(n)

    def wait(_: int) -> None:
        barrier.wait()

    return wait


def _compute_alone() -> None:
    torch.get_num_threads()  # a thread takes the number of the others at the first call
    torch.set_num_threads(1)
