"""Classification and regression together: soft ordinal labels, and the squared error of the expected grade."""

import math

import torch
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.losses.soft_ordinal import SoftOrdinal


class ExpectedGrade(SoftOrdinal):
    """SoftOrdinal plus the squared distance, in grades, of the expected grade from the true one.

    The expected grade is the sum of grade times probability; its squared error is what quadratic kappa punishes. Both
    tasks share the head, so no output is added, and the probabilities remain those of the classification.

    Args:
        class_weights: See GradeLoss.
        sharpness: See SoftOrdinal.
        power: See SoftOrdinal.
        regression: Weight of the squared error, at least 0; 0 is SoftOrdinal.

    Raises:
        InputError: If a setting is outside its range.
    """

    grades: Tensor

    def __init__(
        self,
        class_weights: Tensor | None = None,
        sharpness: float = 2.5,
        power: float = 1.0,
        regression: float = 0.3,
    ) -> None:
        super().__init__(class_weights, sharpness, power)
        if not 0 <= regression < math.inf:
            raise InputError(f"loss.regression is {regression}: give a number of at least 0")
        self.regression = regression
        self.register_buffer("grades", torch.arange(len(self.labels), dtype=torch.float32), persistent=False)

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        expected = (logits.softmax(dim=1) * self.grades).sum(dim=1)  # not @, which autocast would round
        return super().per_knee(logits, grade) + self.regression * (expected - grade) ** 2
