"""Cross-entropy, plain or with label smoothing."""

from torch import Tensor
from torch.nn import functional as F

from koa_lightning.errors import InputError
from koa_lightning.losses.base import GradeLoss


class CrossEntropy(GradeLoss):
    """Cross-entropy of the softmax, with label smoothing (Szegedy et al. 2016).

    The target is (1 - s) on the true grade plus s / 5 on every grade. Class weights multiply the loss of
    the whole knee; torch's CrossEntropyLoss, when it smooths, weighs each grade of the target instead.

    Args:
        class_weights: see GradeLoss.
        label_smoothing: s, in [0, 1).

    Raises:
        InputError: if the smoothing is out of range.
    """

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(class_weights)
        if not 0 <= label_smoothing < 1:
            raise InputError(f"loss.label_smoothing is {label_smoothing}: give a number in [0, 1)")
        self.label_smoothing = label_smoothing

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        return F.cross_entropy(logits, grade, reduction="none", label_smoothing=self.label_smoothing)
