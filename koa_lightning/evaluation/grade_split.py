"""A split of the data, graded by a checkpoint."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import Tensor

from koa_lightning.checkpoint.record import Checkpoint
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.evaluation.results import measure_table
from koa_lightning.losses.build import recorded_loss
from koa_lightning.metrics import predictions as table
from koa_lightning.models.inference import check_finite, grade_batches
from koa_lightning.models.net import KneeNet


def grade_part(
    read: Checkpoint, net: KneeNet, data: KneeDataModule, part: str, *, flip: bool = False, calibrated: bool = False
) -> tuple[pd.DataFrame, Tensor, dict[str, Any]]:
    """Grade a part that is prepared; return the predictions table, the logits (float N x K), and the metrics.

    Args:
        read: The checkpoint, for its loss.
        net: Its network, on the device that computes.
        data: With that part.
        part: Its name.
        flip: Also grade the mirrored images, and average the logits.
        calibrated: With the probabilities that the checkpoint promises; the loss is that of the logits all the same.

    Raises:
        InputError: The network gives no numbers.
    """
    device = next(net.parameters()).device
    logits = torch.cat(list(grade_batches(net, data.eval_dataloader(part), device, flip)))
    check_finite(logits, read.path)
    knees = data.tables[part]
    predictions = table.predictions_table(knees, logits, net.spec.link, read.probabilities(logits, calibrated))
    loss = recorded_loss(read.record)
    mean = mean_loss(loss, logits, knees["grade"]) if loss else None
    return predictions, logits, {"loss": mean, **measure_table(predictions)}


def mean_loss(loss: torch.nn.Module, logits: Tensor, grade: pd.Series) -> float:
    """Return the mean loss of the knees of a known grade, as validation takes it; 0 without any.

    Args:
        loss: Of logits and grade.
        logits: float N x K.
        grade: Of each knee, -1 where unknown.
    """
    true = torch.tensor(grade.to_numpy(dtype="int64"))
    known = true >= 0
    if not known.any():
        return 0.0
    with torch.no_grad():
        return float(loss(logits[known], true[known]))
