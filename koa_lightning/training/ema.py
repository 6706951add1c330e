"""An exponential moving average of the weights that is right from the first step."""

from __future__ import annotations

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from koa_lightning.errors import InputError


class WarmEMA(WeightAveraging):
    """Lightning's weight averaging with a decay that grows from 2/11 to `decay`.

    A constant decay keeps the untrained weights of a short run; a delayed start validates them. With
    min(decay, (1 + n) / (10 + n)) after n updates (as TensorFlow's moving average does) neither happens. The first
    update takes the weights as they are. Validation, checkpoints and everything after training see the average.

    Args:
        decay: Of the average, after the warm-up, in [0, 1); 0.998 remembers about 500 steps.

    Raises:
        InputError: The decay is outside its range.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"callbacks.ema.decay={decay}: must be at least 0 and below 1")

        def average(averaged: list[Tensor], current: list[Tensor], n: Tensor) -> None:
            if not averaged[0].is_floating_point():  # the batch counters of normalisation layers
                torch._foreach_copy_(averaged, current)
                return
            now = min(decay, (1 + int(n)) / (10 + int(n)))
            torch._foreach_lerp_(averaged, current, 1 - now)

        super().__init__(use_buffers=True, multi_avg_fn=average)
