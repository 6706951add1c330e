"""Work on all cores, a few pieces ahead of the consumer of the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_order(
    function: Callable[[T], R], pieces: Iterable[T], *, threads: int | None = None, ahead: int | None = None
) -> Generator[R]:
    """Yield the result of a function for each piece, in order; close the generator to end early.

    At most `ahead` pieces are running or waiting in memory, and Ctrl-C does not wait for pieces not yet started.

    Args:
        function: Called in threads.
        pieces: Pieces of work.
        threads: Number of threads; None: one per core.
        ahead: Pieces at a time; None: two per thread.
    """
    n = threads or os.cpu_count() or 1
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(n)
    try:
        for piece in pieces:
            pending.append(pool.submit(function, piece))
            if len(pending) >= (ahead or 2 * n):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
