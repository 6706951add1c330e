"""The cache built from PNG files against what the cores can decode.

    python benchmarks/cache_build.py

Phantoms are written as PNG files to a temporary folder. One side is `KneeDataModule.prepare` into an empty cache:
reading the table, hashing, decoding, fitting and writing. The other only decodes the same files with PIL into arrays
that are thrown away, on all cores, in threads or in processes that are started before, whichever is faster.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.phantom import draw_phantoms, phantom_manifest
from koa_lightning.data.sources import table

GOAL = 0.8
SIZE = 224
N_PATIENTS = 250  # 500 knees, and three mirror images of each
ROUNDS = 5


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is images a second of the build over those of decoding alone."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_cores()) as threads:
        files = write_files(Path(folder))
        with ProcessPoolExecutor(_cores(), get_context("spawn")) as processes:
            sides: tuple[Callable[[], None], ...] = (
                lambda: _decode(threads, files),
                lambda: _decode(processes, files),
                lambda: _build(Path(folder)),
            )
            rounds = [[len(files) / _seconds(side) for side in sides] for _ in range(ROUNDS + 1)][1:]
    in_threads, in_processes, built = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    ratio = statistics.median(ours / max(rest) for *rest, ours in rounds)
    detail = (
        f"{len(files)} files of {SIZE} px: decoding in threads {in_threads:,.0f}, in processes {in_processes:,.0f}, "
        f"the whole build {built:,.0f} images a second"
    )
    return [{"name": "cache build", "ratio": ratio, "goal": GOAL, "detail": detail}]


def write_files(root: Path) -> list[str]:
    """Write PNG files and the table `knees.csv` of them; return their paths."""
    knees = phantom_manifest(N_PATIENTS, seed=0)
    images = draw_phantoms(
        knees["patient"].tolist(), knees["side"].tolist(), knees["grade"].tolist(), seed=0, size=SIZE
    )
    rows = []
    for number, flipped in enumerate((images, images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1])):
        for knee, image in zip(knees.itertuples(), flipped, strict=True):
            name = f"{knee.patient}{knee.side}-{number}.png"
            Image.fromarray(np.ascontiguousarray(image)).save(root / name)
            rows.append((name, knee.grade, knee.patient, knee.side, "train"))
    pd.DataFrame(rows, columns=["path", "grade", "patient", "side", "split"]).to_csv(root / "knees.csv", index=False)
    return [str(root / row[0]) for row in rows]


def decode(file: str) -> int:
    """Decode one file; return its number of pixels."""
    with Image.open(file) as image:
        return np.asarray(image).size


def _decode(pool: Executor, files: list[str]) -> None:
    assert sum(pool.map(decode, files, chunksize=64)) == len(files) * SIZE * SIZE


def _build(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root) as cache:
        KneeDataModule(
            lambda: table(str(root / "knees.csv")),
            name="table",
            preprocessing=Preprocessing(SIZE),
            batch_size=64,
            cache_dir=cache,
            quiet=True,
        ).prepare(("train",))


def _seconds(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


if __name__ == "__main__":
    for row in measure():
        print(f"{row['name']}: {row['ratio']:.2f} (goal {row['goal']}); {row['detail']}")
