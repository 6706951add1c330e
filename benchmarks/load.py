"""Loading the grader in the box, against the import of torch, which it needs.

    python -m benchmarks.load

New processes, each of which imports torch and then calls `load_model()`. The goals: less than two seconds, and no more
than torch takes. The first process warms the file cache and does not count.
"""

from __future__ import annotations

import statistics
import time

from benchmarks.process import in_own_process

ROUNDS = 7
MOST_SECONDS, MOST_RATIO = 2.0, 1.0


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail, lower}."""
    taken = [in_own_process("benchmarks.load:once") for _ in range(ROUNDS + 1)][1:]
    torch, box = (statistics.median(side) for side in zip(*taken, strict=True))
    slowest = max(seconds for _, seconds in taken)
    detail = f"torch {torch:.2f} s, then the box {box:.2f} s (slowest of {ROUNDS}: {slowest:.2f})"
    return [
        {"name": "load, seconds", "ratio": box, "goal": MOST_SECONDS, "detail": detail, "lower": True},
        {
            "name": "load against torch",
            "ratio": statistics.median(ours / theirs for theirs, ours in taken),
            "goal": MOST_RATIO,
            "detail": detail,
            "lower": True,
        },
    ]


def once() -> tuple[float, float]:
    """Return the seconds of importing torch, and of loading the grader after it."""
    start = time.perf_counter()
    import torch  # noqa: F401

    middle = time.perf_counter()
    from koa_lightning import load_model

    load_model()
    return middle - start, time.perf_counter() - middle


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
