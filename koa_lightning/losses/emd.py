"""Squared earth mover's distance between the predicted and the true distribution of grades."""

import torch
from torch import Tensor

from koa_lightning.losses.base import GradeLoss
from koa_lightning.models.outputs import N_GRADES


class EMD(GradeLoss):
    """Squared earth mover's distance (Hou, Yu and Samaras 2016): sum over k of (P(y <= k) - [y <= k])^2.

    Also known as the ranked probability score (Epstein 1969), in [0, 4]. It is bounded, so its gradient
    vanishes for a knee that is graded wrongly with confidence.

    Args:
        class_weights: see GradeLoss.
    """

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        # The last step of either distribution function is 1: nothing to compare.
        threshold = torch.arange(N_GRADES - 1, device=logits.device)
        at_most = logits.softmax(dim=1).cumsum(dim=1)[:, :-1]
        return (at_most - (grade[:, None] <= threshold).to(logits.dtype)).square().sum(dim=1)
