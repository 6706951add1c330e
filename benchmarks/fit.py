"""Images per second of `koa_lightning.train` against a bare PyTorch loop of the same training.

    python -m benchmarks.fit

Ours is `train(cfg)` as a user runs it: every callback with the moving average of the weights, training metrics, the
drawn progress bar, MLflow tracking with system metrics. The bare loop has none of these; model, batches, augmentation,
loss, precision, clipping, optimizer, schedule and allocator are the same. They run in two processes that take turns of
a few steps. The time before the second turn and after the last step (start, validation, figures) counts for neither
side.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.process import in_own_process, in_turns
from koa_lightning.config import allocator

if TYPE_CHECKING:
    from omegaconf import DictConfig

CASES = (("Lite0", "efflite0", 32), ("B3", "effb3", 16))  # name, config, batch
STEPS, STEPS_A_TURN = 30, 3
GOAL = 0.95


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is our images per second over the bare loop's."""
    return [compare(*case) for case in CASES]


def compare(name: str, model: str, batch: int) -> dict:
    """Run both loops in turns; return the row."""
    with tempfile.TemporaryDirectory() as folder:
        in_own_process("benchmarks.fit:prepare", model, batch, folder)
        sides = (("benchmarks.fit:bare", model, batch, folder), ("benchmarks.fit:ours", model, batch, folder))
        bare_side, ours_turns = in_turns(*sides)
    bare_turns, average = bare_side["turns"], bare_side["average"]
    theirs, own = (statistics.median(turns) / STEPS_A_TURN for turns in (bare_turns, ours_turns))
    detail = (
        f"ours {batch / own:.1f}, bare {batch / theirs:.1f} img/s, {bare_side['precision']}; the moving average, "
        f"which only ours has, takes {100 * average / own:.1f} % of a step"
    )
    ratio = statistics.median(b / o for b, o in zip(bare_turns, ours_turns, strict=True))
    return {"name": f"fit {name}, batch {batch}", "ratio": ratio, "goal": GOAL, "detail": detail}


def prepare(model: str, batch: int, folder: str) -> None:
    """Draw the phantoms, choose the precision, and make the tracking database: once, for both sides."""
    from benchmarks import loops
    from koa_lightning.tracking.store import open_store

    cfg = config(model, batch, folder)
    loops.build(cfg)
    open_store(cfg.tracking.uri, Path(folder))


def ours(model: str, batch: int, folder: str) -> list[float]:
    """Train with `train(cfg)` in this process; return the seconds of each turn."""
    cfg = config(model, batch, folder)
    from koa_lightning.training.run import train

    os.environ["FORCE_COLOR"] = "1"  # the progress bar is drawn as in a terminal, into nothing
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        train(cfg)
    return json.loads(Path(cfg.callbacks.clock.file).read_text())


def bare(model: str, batch: int, folder: str) -> dict:
    """Train in the bare loop in this process; return the seconds of each turn, and of one update of the average."""
    cfg = config(model, batch, folder)
    from benchmarks import loops

    run = loops.bare(cfg, STEPS, STEPS_A_TURN)
    return {"turns": run.turns, "precision": run.plan.precision, "average": _seconds_of_average(cfg)}


def config(model: str, batch: int, folder: str) -> DictConfig:
    """Tune this process's allocator, as `train` does, and return the training config."""
    from koa_lightning.config.compose import compose

    allocator.tune_allocator()
    clock = f"{{_target_: benchmarks.loops.StepClock, steps: {STEPS_A_TURN}, file: {folder}/turns.json}}"
    return compose(
        "train",
        [f"model={model}", "model.weights=none", f"data.batch_size={batch}", f"data.cache_dir={folder}/cache",
         "data.source.n_patients=700", "trainer=cpu", "trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}",
         "trainer.limit_val_batches=1", "explain=none", f"tracking.uri=sqlite:///{folder}/mlflow.db",
         f"+callbacks.clock={clock}", f"out={folder}/run"],
    )  # fmt: skip


def _seconds_of_average(cfg: DictConfig) -> float:
    from hydra.utils import instantiate
    from torch.optim.swa_utils import AveragedModel

    from benchmarks import loops

    module, _, _ = loops.build(cfg)
    callback = instantiate(cfg.callbacks.ema)
    averaged = AveragedModel(module, use_buffers=callback._use_buffers, **callback._kwargs)
    times = []
    for _ in range(11):
        start = time.perf_counter()
        averaged.update_parameters(module)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])  # the first one copies


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
