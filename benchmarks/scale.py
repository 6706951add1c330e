"""Seconds and peak memory of the steps that grow with the number of radiographs, to 1,000,000 made-up rows.

    python -m benchmarks.scale [--rows 10000 100000 1000000]

Each part and size runs in a process of its own. Prints a table with the growth between two sizes: 1 is linear. The
audit's index gets random descriptors in place of radiographs, and is searched in part: the rest costs the same.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cache_reads import kept_by_process
from benchmarks.process import in_own_process

RESULT = Path(__file__).parent / "results" / "scale.json"
CHUNKS = 5  # of the audit's index, measured
LOOK = 0.02  # seconds between two looks at the memory
RESAMPLES, ALL_RESAMPLES = 20, 2000  # computed, and of an evaluation: the cost is the same for each


def manifest(n: int) -> float:
    """Make the manifest of n phantoms; return the seconds."""
    from koa_lightning.data.phantom.manifest import phantom_manifest

    start = time.perf_counter()
    phantom_manifest(n // 2, seed=0)
    return time.perf_counter() - start


def splits(n: int) -> float:
    """Split n phantoms by patient, stratified by grade; return the seconds without the manifest."""
    from koa_lightning.data import splits
    from koa_lightning.data.phantom.manifest import phantom_manifest

    rows = phantom_manifest(n // 2, seed=0)
    start = time.perf_counter()
    splits.stratified(rows, val_fraction=0.15, test_fraction=0.15, seed=0)
    return time.perf_counter() - start


def bootstrap(n: int) -> float:
    """Compute all metrics of n graded knees with intervals; return the seconds of all resamples."""
    from benchmarks.coverage import study
    from koa_lightning.metrics.intervals import of_graded

    knees = study(n // 2, seed=0)
    start = time.perf_counter()
    of_graded(knees, n_resamples=RESAMPLES)
    return (time.perf_counter() - start) * ALL_RESAMPLES / RESAMPLES


def index(n: int) -> float:
    """Compare the keypoints of n images that share nothing; return the seconds without looking for keypoints.

    All keypoints are indexed. Of the chunks that are searched then, `CHUNKS` at most, and their seconds are multiplied.
    """
    from koa_lightning.data.audit import near
    from koa_lightning.data.mapped import scratch

    points = near.points_each(n)
    rng = np.random.default_rng(0)
    reduced, places = scratch((n * points, near.DIMENSIONS), np.float16), scratch((n * points, 3), np.float32)
    for first in range(0, n * points, near.CHUNK):
        some, where = reduced[first : first + near.CHUNK], places[first : first + near.CHUNK]
        some[:], where[:] = rng.normal(scale=0.15, size=some.shape), rng.uniform(1, 224, size=where.shape)
    keypoints, seconds = near.Keypoints(reduced, places, np.full(n, points)), 0.0
    starts = range(0, len(keypoints), near.CHUNK)
    looked = [starts[i] for i in np.unique(np.linspace(0, len(starts) - 1, CHUNKS).astype(int))]
    with tempfile.TemporaryFile() as votes:
        for first in range(0, len(keypoints), near.INDEXED):
            start = time.perf_counter()
            made = keypoints.index(first)
            built = time.perf_counter()
            for each in looked:
                votes.write(keypoints.votes(made, first, each).tobytes())
            seconds += built - start + (time.perf_counter() - built) * len(starts) / len(looked)
        keypoints.counted(votes)
    return seconds


PARTS = ("manifest", "splits", "bootstrap", "index")


def one(part: str, n: int) -> dict[str, float]:
    """Run a part in this process; return its seconds and the peak of its own memory in MB, less that before.

    Its own memory (RssAnon) is without the pages of mapped files, which the system writes out when it needs the memory.
    """
    run = {"manifest": manifest, "splits": splits, "bootstrap": bootstrap, "index": index}[part]
    run(100)  # imports and compilation
    before = peak = kept_by_process("RssAnon")
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(LOOK):
            peak = max(peak, kept_by_process("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        seconds = run(n)
    finally:
        done.set()
        watcher.join()
    return {"seconds": seconds, "mb": (peak - before) / 1e6}


def growth(sizes: list[int], values: list[float]) -> list[float | None]:
    """Return the exponent of the growth from each size to the next; None for the first, and from nothing."""
    found: list[float | None] = [None]
    for i in range(1, len(sizes)):
        known = values[i] > 0 and values[i - 1] > 0
        found.append(math.log(values[i] / values[i - 1]) / math.log(sizes[i] / sizes[i - 1]) if known else None)
    return found


def table(results: dict[str, dict[int, dict[str, float]]]) -> str:
    """Return the results as a table of Markdown."""
    lines = ["| part | rows | seconds | growth | peak memory, MB | growth |", "| --- | --- | --- | --- | --- | --- |"]
    for part, by_size in results.items():
        sizes = list(by_size)
        columns = [[by_size[n][name] for n in sizes] for name in ("seconds", "mb")]
        grown = [growth(sizes, column) for column in columns]
        for i, n in enumerate(sizes):
            shown = ["" if each[i] is None else f"{each[i]:.2f}" for each in grown]
            line = (part, f"{n:,}", f"{columns[0][i]:.2f}", shown[0], f"{columns[1][i]:,.0f}", shown[1])
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Run all parts at all sizes; print the table and write the JSON."""
    parser = argparse.ArgumentParser(description="What a million radiographs cost.")
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON")
    typed = parser.parse_args(arguments)
    results: dict[str, dict[int, dict[str, float]]] = {}
    for part in PARTS:
        for n in sorted(typed.rows):
            found: dict[str, Any] = in_own_process("benchmarks.scale:one", part, n)
            results.setdefault(part, {})[n] = found
            print(f"{part}, {n:,} rows: {found['seconds']:.2f} s, {found['mb']:,.0f} MB", flush=True)
    print(table(results))
    typed.out.parent.mkdir(parents=True, exist_ok=True)
    typed.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
