"""Memory of the training process with 1,000,000 rows against 10,000.

    python -m benchmarks.memory

Each side is `train(cfg)` in its own process: made-up knees, Lite0, all callbacks, MLflow tracking. The cache file is
laid out before under the name that `open_cache` looks for, and is a file of holes, so that nothing is decoded and the
disk stays empty; its pages are black. Memory is measured after some steps, and then the run ends. It is the unique set
size less the pages of the cache that happen to be mapped: these are the system's file cache, freed when it needs them.
The hard case is 32 px, where the network itself needs little; 224 px is the usual size.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.process import in_own_process
from koa_lightning.config import allocator

if TYPE_CHECKING:
    import pandas as pd

FEW, MANY = 10_000, 1_000_000  # rows
SIZES = (32, 224)  # pixels
STEPS = 10
GOAL = 1.1
_SPLITS = ("train",) * 14 + ("val",) * 3 + ("test",) * 3  # of a patient, by number


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail, lower}; ratio is the memory with many rows over that with few."""
    return [_compare(size) for size in SIZES]


def _compare(size: int) -> dict:
    few, many = (in_own_process("benchmarks.memory:measure_rows", n, size) for n in (FEW, MANY))
    shown = ", ".join(f"{label} {few[key]:.0f} and {many[key]:.0f} MB" for key, label in _SHOWN.items())
    return {
        "name": f"memory of {MANY:,} rows, {size} px",
        "ratio": many["own"] / few["own"],
        "goal": GOAL,
        "detail": shown,
        "lower": True,
    }


_SHOWN = {"own": "own", "uss": "with the pages of the cache", "peak": "peak resident"}


def measure_rows(n: int, size: int) -> dict[str, float]:
    """Train on n made-up rows; return megabytes by name. The cache file is laid out by a process of its own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        in_own_process("benchmarks.memory:lay_out_cache", n, size, str(Path("cache").absolute()))
        _train(n, size)
        return json.loads(Path("memory.json").read_text())


def _train(n: int, size: int) -> None:
    from omegaconf import open_dict

    from koa_lightning.config.compose import compose
    from koa_lightning.training.run import train

    allocator.tune_allocator()
    from benchmarks.loops import CutOff

    cfg = compose(
        "train",
        ["model=efflite0", "model.weights=none", "trainer=cpu", "trainer.precision=bf16-hybrid", "trainer.max_epochs=1",
         "data.split=official", f"data.image_size={size}", "data.batch_size=32", "data.cache_dir=cache", "out=run",
         "quiet=true", "tracking.uri=sqlite:///mlflow.db"],
    )  # fmt: skip
    with open_dict(cfg):
        cfg.data.name = "made-up"
        cfg.data.source = {"_target_": "benchmarks.memory.rows", "_partial_": True, "n": n}
        cfg.callbacks.memory = {"_target_": "benchmarks.loops.MemoryAfter", "steps": STEPS, "file": "memory.json"}
    with contextlib.suppress(CutOff):
        train(cfg)


def rows(n: int) -> pd.DataFrame:
    """Return the manifest rows of n made-up knees, two per patient, with content hashes: no file is opened."""
    import numpy as np
    import pandas as pd

    from koa_lightning.data import manifest

    patient = np.arange(n) // 2
    frame = pd.DataFrame(
        {
            "path": [f"/radiographs/knees/{i:08d}.png" for i in range(n)],
            "grade": patient // len(_SPLITS) % 5,
            "patient": [f"P{i:07d}" for i in patient],
            "side": np.array(["L", "R"])[np.arange(n) % 2],
            "split": np.array(_SPLITS)[patient % len(_SPLITS)],
            "hash": [f"{i:032x}" for i in range(n)],
        }
    )
    return manifest.make(frame, "made-up rows")


def lay_out_cache(n: int, size: int, folder: str) -> None:
    """Make the cache of the splits that training opens: whole in name and length, holes inside."""
    import numpy as np

    from koa_lightning.data import cache

    knees = rows(n)
    knees = knees[knees["split"].isin(["train", "val"])]
    name = cache.key(knees["hash"].tolist(), knees["side"].tolist(), cache.Preprocessing(size))
    Path(folder).mkdir()
    file = Path(folder) / f"{name}.npy"
    np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(knees), size, size))
    record = cache.Record(
        {}, knees["hash"].tolist(), [(size, size)] * len(knees), [], []
    )  # no two knees of equal pixels
    file.with_suffix(".json").write_text(record.to_json())


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
