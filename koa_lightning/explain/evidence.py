"""What an explanation explains: one number per image, computed from its logits."""

from collections.abc import Sequence

import torch
from torch import Tensor

from koa_lightning.models import outputs

TARGETS = ("grade", "expected")


def evidence(logits: Tensor, grades: Sequence[int | None], target: str, link: str) -> Tensor:
    """Return the number to explain for each image.

    Args:
        logits: Float, N x K.
        grades: N, 0 to 4; None for the predicted one.
        target: "grade": the grade's logit, or with "corn", whose logits are conditional, the log of its
            probability; "expected": the expected grade.
        link: A key of `koa_lightning.models.outputs.LINKS`.

    Returns:
        Float, N.
    """
    shares = outputs.probabilities(logits, link)
    if target == "expected":
        return outputs.expected_grade(shares)
    predicted = shares.argmax(1).tolist()
    pairs = zip(grades, predicted, strict=True)
    chosen = torch.tensor([best if grade is None else grade for grade, best in pairs], device=logits.device)
    # the log only scales a map that is scaled anyway, and separates tiny probabilities from 0
    tiny = torch.finfo(shares.dtype).tiny
    numbers = logits if link == "softmax" else shares.clamp_min(tiny).log()
    return numbers.gather(1, chosen[:, None])[:, 0]


def slopes(logits: Tensor, grades: Sequence[int | None], target: str, link: str) -> Tensor:
    """Return the gradient of each image's evidence by its logits: N x K, each row scaled to a largest magnitude of 1.

    The scaling gives a confident network, whose gradients are tiny, as clear a map as any other. A row is 0 if no logit
    changes the evidence. Arguments as for `evidence`.
    """
    leaf = logits.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(evidence(leaf, grades, target, link).sum(), leaf)
    largest = gradient.abs().amax(1, keepdim=True)
    return gradient / torch.where(largest > 0, largest, torch.ones_like(largest))
