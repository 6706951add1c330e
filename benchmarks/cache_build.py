"""The cache built from PNG files against what the cores can decode.

    python benchmarks/cache_build.py

Phantoms are written as PNG files to a temporary folder. One side is `open_cache` with an empty cache folder: reading,
decoding, checking, fitting, and writing to the disk. The other only decodes the same files into arrays that are
discarded, on all cores: with PIL in threads or in processes that are started before, or with OpenCV in threads,
whichever is fastest. The detail also gives the rate of the first `KneeDataModule.prepare`, which also reads the table
and hashes the files.
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

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from koa_lightning.data.cache import Preprocessing, open_cache
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.manifest import add_hashes
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.data.sources.table import table

GOAL = 0.8
SIZE = 224
N_PATIENTS = 250  # 500 knees, and three mirror images of each
ROUNDS = 5


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is images per second of the build over those of decoding alone."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_cores()) as threads:
        root = Path(folder)
        files = write_files(root)
        knees = add_hashes(table(str(root / "knees.csv")), ["train"])
        with ProcessPoolExecutor(_cores(), get_context("spawn")) as processes:
            sides: tuple[Callable[[], None], ...] = (
                lambda: _decode(threads, files),
                lambda: _decode(processes, files),
                lambda: _decode(threads, files, decode_by_opencv),
                lambda: _build(root, knees),
                lambda: _prepare(root),
            )
            rounds = [[len(files) / _seconds(side) for side in sides] for _ in range(ROUNDS + 1)][1:]
    medians = [f"{statistics.median(rates):,.0f}" for rates in zip(*rounds, strict=True)]
    ratio = statistics.median(built / max(decoded) for *decoded, built, _ in rounds)
    detail = (
        f"images per second over {len(files)} PNG files of {SIZE} px: decoding with PIL in threads "
        f"{medians[0]}, in processes {medians[1]}, with OpenCV {medians[2]}; build {medians[3]}, with table and hashes "
        f"{medians[4]}"
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


def decode_by_opencv(file: str) -> int:
    """Decode one file as `decode` does, with another library."""
    return np.asarray(cv2.imread(file, cv2.IMREAD_GRAYSCALE)).size


def _decode(pool: Executor, files: list[str], one: Callable[[str], int] = decode) -> None:
    assert sum(pool.map(one, files, chunksize=64)) == len(files) * SIZE * SIZE


def _build(root: Path, knees: pd.DataFrame) -> None:
    paths, hashes, sides = (knees[name].tolist() for name in ("path", "hash", "side"))
    with tempfile.TemporaryDirectory(dir=root) as cache:
        assert open_cache(paths, hashes, sides, Preprocessing(SIZE), Path(cache), quiet=True).built


def _prepare(root: Path) -> None:
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
