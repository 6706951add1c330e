"""Focal loss: cross-entropy that down-weights the knees that are already graded well."""

import math

from torch import Tensor
from torch.nn import functional as F

from koa_lightning.errors import InputError
from koa_lightning.losses.base import GradeLoss
from koa_lightning.models.outputs import N_GRADES


class Focal(GradeLoss):
    """Focal loss -(1 - p)^gamma log(p), p the probability of the true grade (Lin et al. 2017).

    Its alpha is the class weights.

    Args:
        class_weights: see GradeLoss.
        gamma: focusing exponent, >= 0; 0 is cross-entropy.

    Raises:
        InputError: if gamma is negative or not finite.
    """

    def __init__(self, class_weights: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__(class_weights)
        if not 0 <= gamma < math.inf:
            raise InputError(f"loss.gamma is {gamma}: give a number >= 0")
        self.gamma = gamma

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        log_p = logits.log_softmax(dim=1)
        true = F.one_hot(grade, N_GRADES).bool()
        # log(1 - p) from the other grades: 1 - p itself rounds to 0 for a sure knee, where a power of it
        # with gamma < 1 has no finite gradient.
        log_rest = log_p.masked_fill(true, -math.inf).logsumexp(dim=1)
        return -(self.gamma * log_rest).exp() * log_p.gather(1, grade[:, None]).squeeze(1)
