"""CORN: rank-consistent ordinal regression by conditional probabilities."""

import torch
from torch import Tensor
from torch.nn import functional as F

from koa_lightning.losses.base import GradeLoss
from koa_lightning.models.outputs import N_GRADES


class Corn(GradeLoss):
    """CORN (Shi, Cao and Raschka 2021): logit k asks "worse than k?" of the knees that reach grade k.

    The mean is over all questions asked in the batch, as in coral_pytorch, whereas the paper takes a mean for
    each question: sum(w[y] * l) / sum(w[y] * questions of the knee), with min(y + 1, 4) questions per knee.
    The loss of one knee is -log of its probability under the corn link, so only the link is ordinal: unlike
    ChenOrdinal, EMD and SoftOrdinal, CORN does not penalise mass by its distance from the true grade.

    Args:
        class_weights: see GradeLoss.
    """

    link = "corn"

    def per_knee(self, logits: Tensor, grade: Tensor) -> Tensor:
        """See GradeLoss.per_knee."""
        threshold = torch.arange(N_GRADES - 1, device=logits.device)
        worse = (grade[:, None] > threshold).to(logits.dtype)
        asked = grade[:, None] >= threshold
        return (F.binary_cross_entropy_with_logits(logits, worse, reduction="none") * asked).sum(dim=1)

    def terms(self, grade: Tensor) -> Tensor:
        """Questions asked of each knee; see GradeLoss.terms."""
        return (grade + 1).clamp(max=N_GRADES - 1)
