"""An exponential moving average of the weights that is right from the first step."""

from __future__ import annotations

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WarmEMA(WeightAveraging):
    """Lightning's weight averaging with a decay that grows from 0.1 to `decay`.

    A constant decay keeps the untrained weights of a short run; a delayed start validates them. With
    min(decay, (1 + n) / (10 + n)) after n updates (as TensorFlow's moving average does) neither happens. Validation,
    checkpoints and everything after training see the averaged weights.

    Args:
        decay: Of the average, after the warm-up; 0.998 remembers about 500 steps.
    """

    def __init__(self, decay: float = 0.998) -> None:
        def average(averaged: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
            if not averaged.is_floating_point():  # the batch counter of a normalisation layer
                return current
            now = min(decay, (1 + float(n)) / (10 + float(n)))
            return averaged.lerp(current, 1 - now)

        super().__init__(use_buffers=True, avg_fn=average)
