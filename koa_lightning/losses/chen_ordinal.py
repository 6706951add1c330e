"""The ordinal loss made for knee grading, which penalises probability by its distance from the true grade."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.losses.base import GradeLoss, grade_distances
from koa_lightning.models.outputs import N_GRADES


class ChenOrdinal(GradeLoss):
    """Adjustable ordinal loss (Chen et al. 2019): sum over j of (p_j * W[y, j])^2, with W[y, y] = 0.

    It is bounded, so its gradient vanishes for a knee that is graded wrongly with confidence.

    Args:
        class_weights: see GradeLoss.
        penalties: W for |y - j| = 1, 2, 3, 4. Chen's milder variant is 3, 4, 5, 6, the steeper 5, 8, 11, 14.

    Raises:
        InputError: if the penalties are not four positive numbers.
    """

    penalty: Tensor

    def __init__(self, class_weights: Tensor | None = None, penalties: Sequence[float] = (4.0, 6.0, 8.0, 10.0)) -> None:
        super().__init__(class_weights)
        if len(penalties) != N_GRADES - 1 or not all(0 < penalty < math.inf for penalty in penalties):
            raise InputError(f"loss.penalties is {list(penalties)}: give {N_GRADES - 1} positive numbers")
        by_distance = torch.tensor([0.0, *penalties])
        self.register_buffer("penalty", by_distance[grade_distances()], persistent=False)

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        return (logits.softmax(dim=1) * self.penalty[grade]).square().sum(dim=1)
