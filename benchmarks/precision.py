"""Images a second of training as `precision=auto` sets it up on the CPU, against plain PyTorch defaults.

    python -m benchmarks.precision

Auto: tuned allocator, channels_last, the fastest of fp32, bf16 and bf16-hybrid. Plain: fp32, contiguous, the default
allocator. Both run the bare loop (see `loops.py`), each in its own process because the allocator belongs to the
process, in turn. They start from the same weights and see the same batches, so a second row tells how far the losses
of the first round are apart: the largest relative difference of their moving averages. Dropout is off, because its
random numbers depend on the precision.
"""

from __future__ import annotations

import statistics
import tempfile

import numpy as np

from benchmarks.process import in_own_process

CASES = (("Lite0", "efflite0", 32), ("B3", "effb3", 16))  # name, config, batch
STEPS = (20, 6, 6)  # of each round; the first is long enough to compare the losses
WARM_UP = 2
SMOOTHED = 5  # steps in the moving average
GOAL, LARGEST_DIFFERENCE = 2.5, 0.1


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}, and for the losses also lower=True."""
    return [row for case in CASES for row in _compare(*case)]


def _compare(name: str, model: str, batch: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as cache:
        in_own_process("benchmarks.precision:side", True, model, batch, 1, cache)  # draws, and chooses once
        rounds = [
            [in_own_process("benchmarks.precision:side", auto, model, batch, steps, cache) for auto in (False, True)]
            for steps in STEPS
        ]
    plain, auto = ([side["seconds"] for side in sides] for sides in zip(*rounds, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in zip(plain, auto, strict=True))
    (first_plain, first_auto), title = rounds[0], f"{name}, batch {batch}"
    speeds = " against ".join(f"{batch / statistics.median(seconds):.1f}" for seconds in (auto, plain))
    detail = (
        f"{first_auto['precision']} {speeds} img/s; chosen from {first_auto['reason'].removeprefix('remembered: ')}"
    )
    apart = largest_difference(first_plain["losses"], first_auto["losses"])
    last = " and ".join(f"{np.mean(side['losses'][-SMOOTHED:]):.3f}" for side in (first_plain, first_auto))
    about = f"largest relative difference of the losses in {STEPS[0]} steps; at the end {last}"
    return [
        {"name": f"precision {title}", "ratio": ratio, "goal": GOAL, "detail": detail},
        {"name": f"its losses {title}", "ratio": apart, "goal": LARGEST_DIFFERENCE, "detail": about, "lower": True},
    ]


def largest_difference(plain: list[float], auto: list[float]) -> float:
    """Return the largest relative difference of two loss curves, each smoothed by a moving average."""
    kernel = np.full(SMOOTHED, 1 / SMOOTHED)
    a, b = (np.convolve(losses, kernel, mode="valid") for losses in (plain, auto))
    return float(np.max(np.abs(a - b) / np.abs(a)))


def side(auto: bool, model: str, batch: int, steps: int, cache: str) -> dict:
    """Train some steps in this process; return seconds a step, losses, and how it computed."""
    from koa_lightning import speed

    if auto:
        speed.tune_allocator()
    from benchmarks import loops
    from koa_lightning.config import compose

    plain = [] if auto else ["trainer.precision=fp32", "trainer.channels_last=false"]
    cfg = compose(
        "train",
        [f"model={model}", "model.weights=none", "model.drop_rate=0", "model.drop_path_rate=0", "trainer=cpu",
         "trainer.max_epochs=1", f"trainer.limit_train_batches={STEPS[0]}", f"data.batch_size={batch}",
         f"data.cache_dir={cache}", "quiet=true", *plain],
    )  # fmt: skip
    run = loops.bare(cfg, steps)
    seconds = (run.ends[-1] - run.ends[WARM_UP - 1]) / (steps - WARM_UP) if steps > WARM_UP else float("nan")
    return {"seconds": seconds, "losses": run.losses, "precision": run.plan.precision, "reason": run.plan.reason}


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
