"""Images a second of `koa_lightning.train` against a bare PyTorch loop that trains the same.

    python -m benchmarks.fit

Ours is `train(cfg)` as a user runs it: every callback with the moving average of the weights, training metrics, the
drawn progress bar, MLflow tracking with system metrics. The bare loop has none of these, the moving average neither;
model, batches, augmentation, loss, precision, clipping, optimizer, schedule and allocator are the same. Time counts
from the end of the warm-up to the end of the last batch, so start, validation and figures are left out of both.
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

from benchmarks.process import in_own_process

if TYPE_CHECKING:
    from omegaconf import DictConfig

CASES = (("Lite0", "efflite0", 32, 16), ("B3", "effb3", 16, 16))  # name, config, batch, steps
WARM_UP = 3
ROUNDS = 5
GOAL = 0.95


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is our images a second over the bare loop's."""
    return [in_own_process("benchmarks.fit:compare", *case) for case in CASES]


def compare(name: str, model: str, batch: int, steps: int) -> dict:
    """Run both loops in turn in this process; return the row."""
    from koa_lightning import speed

    speed.tune_allocator()  # both sides have it
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        cfg = config(model, batch, steps)
        pairs = [_round(cfg, steps, ours_first=bool(i % 2)) for i in range(ROUNDS)]
        average = _seconds_of_average(cfg)
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(theirs / own for own, theirs in pairs)
    detail = (
        f"ours {batch / ours:.1f}, bare {batch / bare:.1f} img/s; the moving average, which only ours has, "
        f"takes {100 * average / ours:.1f} % of a step"
    )
    return {"name": f"fit {name}, batch {batch}", "ratio": ratio, "goal": GOAL, "detail": detail}


def config(model: str, batch: int, steps: int) -> DictConfig:
    """Return the training config: phantoms, the cache and the tracking under the working directory."""
    from koa_lightning.config import compose

    overrides = [
        f"model={model}", "model.weights=none", f"data.batch_size={batch}", "data.cache_dir=cache", "trainer=cpu",
        "trainer.max_epochs=1", f"trainer.limit_train_batches={steps}", "trainer.limit_val_batches=1",
        "explain=none", "tracking.uri=sqlite:///mlflow.db",
        "+callbacks.clock={_target_: benchmarks.loops.StepClock, file: ends.json}",
    ]  # fmt: skip
    return compose("train", [*overrides, "out=run"])


def _round(cfg: DictConfig, steps: int, ours_first: bool) -> tuple[float, float]:
    """Return seconds a step of ours and of the bare loop."""
    from benchmarks import loops

    if ours_first:
        return _ours(cfg), _seconds_a_step(loops.bare(cfg, steps).ends)
    bare = _seconds_a_step(loops.bare(cfg, steps).ends)
    return _ours(cfg), bare


def _ours(cfg: DictConfig) -> float:
    from koa_lightning.train import train

    os.environ["FORCE_COLOR"] = "1"  # the progress bar is drawn as in a terminal, into nothing
    with Path(os.devnull).open("w") as nothing, contextlib.redirect_stdout(nothing):
        train(cfg)
    return _seconds_a_step(json.loads(Path("ends.json").read_text()))


def _seconds_a_step(ends: list[float]) -> float:
    return (ends[-1] - ends[WARM_UP - 1]) / (len(ends) - WARM_UP)


def _seconds_of_average(cfg: DictConfig) -> float:
    from hydra.utils import instantiate
    from torch.optim.swa_utils import AveragedModel

    from benchmarks import loops

    module, _, _ = loops.build(cfg)
    callback = instantiate(cfg.callbacks.ema)
    averaged = AveragedModel(module, use_buffers=callback._use_buffers, **callback._kwargs)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        averaged.update_parameters(module)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
