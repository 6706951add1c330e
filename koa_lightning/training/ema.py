"""An exponential moving average of the weights that is right from the first step."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from koa_lightning.errors import InputError


class WarmEMA(WeightAveraging):
    """Lightning's weight averaging with a decay that grows from 2/11 to `decay`.

    In a short run, a constant decay would keep the untrained weights, and a delayed start would validate them. The
    decay min(decay, (1 + n) / (10 + n)) after n updates, as in TensorFlow's moving average, avoids both. The first
    update copies the weights. Validation, checkpoints and everything after training use the average.

    Args:
        decay: Decay of the average, after the warm-up, in [0, 1); 0.998 remembers about 500 steps.

    Raises:
        InputError: The decay is outside its range.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"callbacks.ema.decay={decay}: must be at least 0 and below 1")
        self.decay = decay
        super().__init__(use_buffers=True)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Count the updates on the host: torch's own counter makes every step wait for the GPU three times."""
        super().setup(trainer, pl_module, stage)
        average = self._average_model
        if average is not None:
            average.n_averaged = average.n_averaged.cpu()
            average.update_parameters = functools.partial(_update, average, self.decay)  # type: ignore[method-assign]


@torch.no_grad()
def _update(average: AveragedModel, decay: float, model: nn.Module) -> None:
    """Move the average towards a model, all tensors of one dtype at once; nothing waits for the device."""
    n = int(average.n_averaged)
    now = min(decay, (1 + n) / (10 + n)) if n else 0.0
    groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for mine, theirs in zip(_tensors(average.module), _tensors(model), strict=True):
        groups[mine.dtype][0].append(mine)
        groups[mine.dtype][1].append(theirs)
    for kind, (averaged, current) in groups.items():
        if n and kind.is_floating_point:
            torch._foreach_lerp_(averaged, current, 1 - now)
        else:  # the first update, and the batch counters of normalisation layers
            torch._foreach_copy_(averaged, current)
    average.n_averaged += 1


def _tensors(model: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain((p.detach() for p in model.parameters()), model.buffers())
