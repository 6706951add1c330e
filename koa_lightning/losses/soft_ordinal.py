"""Cross-entropy against labels that leave some mass on the neighbouring grades."""

import math

from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.losses.base import GradeLoss, grade_distances


class SoftOrdinal(GradeLoss):
    """Cross-entropy with soft ordinal labels, SORD (Diaz and Marathe 2019).

    The label of grade y is softmax over j of -sharpness * |y - j|^power. The defaults put 0.92 on the true
    grade at either end of the scale and 0.85 in between, with 0.07-0.08 on each neighbour.

    Args:
        class_weights: see GradeLoss.
        sharpness: > 0; larger is closer to plain cross-entropy.
        power: > 0; 1 gives exponential tails, 2 Gaussian ones.

    Raises:
        InputError: if sharpness or power is not positive and finite.
    """

    labels: Tensor

    def __init__(self, class_weights: Tensor | None = None, sharpness: float = 2.5, power: float = 1.0) -> None:
        super().__init__(class_weights)
        if not (0 < sharpness < math.inf and 0 < power < math.inf):
            raise InputError(f"loss.sharpness is {sharpness} and loss.power is {power}: give positive numbers")
        labels = (-sharpness * grade_distances().float() ** power).softmax(dim=1)
        self.register_buffer("labels", labels, persistent=False)

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        return -(self.labels[grade] * logits.log_softmax(dim=1)).sum(dim=1)
