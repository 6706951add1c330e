"""Learning-rate schedules; each function returns what Lightning wants of `configure_optimizers`."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau


def warmup_cosine(
    optimizer: Optimizer, *, total_steps: int, monitor: str, mode: str, warmup: float = 0.1, final: float = 0.01
) -> dict[str, Any]:
    """Linear warm-up over a share of the steps, then half a cosine down to a share of the learning rate.

    Args:
        optimizer: Its groups keep their own learning rates.
        total_steps: Optimizer steps of the whole run.
        monitor: Unused; every schedule is called alike.
        mode: Unused.
        warmup: Share of the steps.
        final: Share of the learning rate at the end.
    """
    warm = max(1, round(warmup * total_steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done = (step - warm) / max(1, total_steps - warm)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def one_cycle(
    optimizer: Optimizer, *, total_steps: int, monitor: str, mode: str, warmup: float = 0.3, start_div: float = 25.0,
    final_div: float = 1e4,
) -> dict[str, Any]:  # fmt: skip
    """One-cycle policy (Smith and Topin 2018): up to the learning rate and down again by cosines.

    Args:
        optimizer: The learning rates of its groups are the peaks.
        total_steps: Optimizer steps of the whole run.
        monitor: Unused; every schedule is called alike.
        mode: Unused.
        warmup: Share of the steps on the way up.
        start_div: The first learning rate is the peak divided by this.
        final_div: The last is the first divided by this.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = OneCycleLR(
        optimizer, max_lr=peaks, total_steps=max(2, total_steps), pct_start=warmup, div_factor=start_div,
        final_div_factor=final_div, cycle_momentum=False,
    )  # fmt: skip
    return {"scheduler": schedule, "interval": "step"}


def plateau(
    optimizer: Optimizer, *, total_steps: int, monitor: str, mode: str, factor: float = 0.3, patience: int = 3
) -> dict[str, Any]:
    """Cut the learning rate when the monitored metric has not improved for some epochs.

    Args:
        optimizer: Its groups keep their ratios.
        total_steps: Unused; every schedule is called alike.
        monitor: Metric name.
        mode: `max` or `min`.
        factor: The learning rate is multiplied by it.
        patience: Epochs without improvement.
    """
    schedule = ReduceLROnPlateau(optimizer, mode=mode, factor=factor, patience=patience)  # type: ignore[arg-type]
    return {"scheduler": schedule, "interval": "epoch", "monitor": monitor}
