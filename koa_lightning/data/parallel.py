"""Work on all cores, a few pieces ahead of whoever takes the results."""

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
    """Yield what a function returns for each piece, in order; close the generator to end early.

    No more pieces are begun or wait in memory than `ahead` says, and Ctrl-C does not wait for those not begun.

    Args:
        function: Called in threads.
        pieces: Of work.
        threads: None: one a core.
        ahead: Pieces at a time; None: two a thread.
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
