"""What metrics of a confusion matrix share.

They take counts (... x K x K, rows reference, columns prediction, any number type) and return float64 of the leading
shape, so that a thousand bootstrap matrices cost one call. A metric that is undefined for the counts (no knee at all,
one grade only) is NaN, never 0. For a grade that does not occur in the reference, recall, precision and F1 are all
undefined.
"""

import torch
from torch import Tensor


def kappa(confusion: Tensor, power: int) -> Tensor:
    """Return agreement beyond chance with a power of the distance between grades as the weight (Cohen 1968).

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.
        power: 1 for linear, 2 for quadratic weights.
    """
    counts = confusion.double()
    weights = distance(counts) ** power
    chance = counts.sum(-1, keepdim=True) * counts.sum(-2, keepdim=True)
    observed = (weights * counts).sum((-2, -1)) * counts.sum((-2, -1))
    return 1 - observed / (weights * chance).sum((-2, -1))


def macro(per_grade: Tensor, confusion: Tensor) -> Tensor:
    """Return the mean over the grades that occur in reference or prediction; the others must be 0."""
    occurs = (confusion.sum(-1) + confusion.sum(-2)) > 0
    return per_grade.sum(-1) / occurs.sum(-1)


def where_true(per_grade: Tensor, counts: Tensor) -> Tensor:
    """Return the values per grade, NaN for a grade that does not occur in the reference."""
    return per_grade.masked_fill(counts.sum(-1) == 0, torch.nan)


def diagonal(counts: Tensor) -> Tensor:
    """Return the number of correctly predicted knees of each grade, ... x K."""
    return counts.diagonal(dim1=-2, dim2=-1)


def distance(counts: Tensor) -> Tensor:
    """Return the absolute distance between true and predicted grade, K x K."""
    grade = torch.arange(counts.shape[-1], dtype=counts.dtype, device=counts.device)
    return (grade[:, None] - grade[None, :]).abs()
