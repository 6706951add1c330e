"""Images per second of training as `precision=auto` sets it up on the CPU, against plain PyTorch defaults.

    python -m benchmarks.precision

Auto: tuned allocator, channels_last, faster gradients, a fused optimizer, the fastest of fp32, bf16 and bf16-hybrid.
Plain: fp32, contiguous, the default allocator, every layer as timm has it, the optimizer as PyTorch has it. Both run
the bare loop (see `loops.py`), in two processes that take turns, one step each. They start from the same weights and
see the same batches, so a second row shows how far apart the losses are: the largest relative difference of their
moving averages, as a share of that between plain PyTorch with two seeds, which is the noise in every comparison
of runs. Dropout is off, because its random numbers depend on the precision.
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.process import in_own_process, in_turns
from koa_lightning.config import allocator

CASES = (("Lite0", "efflite0", 32), ("B3", "effb3", 16))  # name, config, batch
STEPS = 20
WARM_UP = 2
OTHER_SEED = 43
SMOOTHED = 5  # steps in the moving average
GOAL, MOST_NOISE = 2.5, 1.0


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}, and for the losses also lower=True."""
    return [row for case in CASES for row in _compare(*case)]


def _compare(name: str, model: str, batch: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as cache:
        case = (model, batch, cache)
        in_own_process("benchmarks.precision:side", True, 0, *case)  # draws the knees, and chooses the precision
        plain, auto = in_turns(*(("benchmarks.precision:side", auto, STEPS, *case) for auto in (False, True)))
        other = in_own_process("benchmarks.precision:side", False, STEPS, *case, OTHER_SEED)
    pairs = list(zip(plain["seconds"], auto["seconds"], strict=True))[WARM_UP - 1 :]
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    slow, fast = (batch / statistics.median(side) for side in zip(*pairs, strict=True))
    reason = auto["reason"].removeprefix("remembered: ")
    detail = f"{auto['precision']} {fast:.1f} against {slow:.1f} img/s; chosen from {reason}"
    apart, noise = (largest_difference(plain["losses"], side["losses"]) for side in (auto, other))
    last = " and ".join(f"{np.mean(side['losses'][-SMOOTHED:]):.3f}" for side in (plain, auto))
    about = f"largest relative difference in {STEPS} steps {apart:.3f}, of two seeds {noise:.3f}; at the end {last}"
    title = f"{name}, batch {batch}"
    return [
        {"name": f"precision {title}", "ratio": ratio, "goal": GOAL, "detail": detail},
        {"name": f"its losses {title}", "ratio": apart / noise, "goal": MOST_NOISE, "detail": about, "lower": True},
    ]


def largest_difference(plain: list[float], auto: list[float]) -> float:
    """Return the largest relative difference of two loss curves, each smoothed by a moving average."""
    kernel = np.full(SMOOTHED, 1 / SMOOTHED)
    a, b = (np.convolve(losses, kernel, mode="valid") for losses in (plain, auto))
    return float(np.max(np.abs(a - b) / np.abs(a)))


def side(auto: bool, steps: int, model: str, batch: int, cache: str, seed: int = 42) -> dict:
    """Train some steps in this process; return the seconds of each but the first, the losses, and how it computed."""
    if auto:
        allocator.tune_allocator()
    from benchmarks import loops
    from koa_lightning.config.compose import compose
    from koa_lightning.models import plan

    plain = [] if auto else ["trainer.precision=fp32", "trainer.channels_last=false", "optimizer.factory.fused=false"]
    cfg = compose(
        "train",
        [f"model={model}", "model.weights=none", "model.drop_rate=0", "model.drop_path_rate=0", "trainer=cpu",
         "trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS}", f"data.batch_size={batch}",
         f"data.cache_dir={cache}", f"seed={seed}", "quiet=true", *plain],
    )  # fmt: skip
    with nullcontext() if auto else mock.patch.object(plan.Plan, "prepare", _as_timm_has_it):
        run = loops.bare(cfg, steps, 1)
    return {"seconds": run.turns, "losses": run.losses, "precision": run.plan.precision, "reason": run.plan.reason}


def _as_timm_has_it(plan: Any, net: Any) -> Any:
    """Leave every layer as PyTorch and timm have it, without the faster gradients of `models.cpu.faster`."""
    return net


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
