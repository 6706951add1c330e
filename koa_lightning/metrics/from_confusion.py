"""Metrics of ordered grades as plain functions of a confusion matrix.

Every function takes counts (... x K x K, rows truth, columns prediction, any number type) and returns
float64 of the leading shape, so that a thousand bootstrap matrices cost one call. A metric that the counts
leave undefined (no knee at all, one grade only) is NaN, never 0. Of a grade that no knee truly has,
recall, precision and F1 are all undefined: nothing can be said of how it is graded.
"""

import torch
from torch import Tensor


def accuracy(confusion: Tensor) -> Tensor:
    """Share of knees whose predicted grade is the true one.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, 1], NaN without any knee.
    """
    counts = confusion.double()
    return _diagonal(counts).sum(-1) / counts.sum((-2, -1))


def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the grades that occur in the truth, as scikit-learn defines it.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, 1], NaN without any knee.
    """
    return recall_per_grade(confusion).nanmean(-1)


def recall_per_grade(confusion: Tensor) -> Tensor:
    """Share of the knees of each true grade that are predicted so.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ... x K, in [0, 1], NaN for a grade that does not occur in the truth.
    """
    counts = confusion.double()
    return _diagonal(counts) / counts.sum(-1)


def precision_per_grade(confusion: Tensor) -> Tensor:
    """Share of the knees predicted as each grade that are of it.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ... x K, in [0, 1], NaN for a grade that is never predicted, or does not occur in the truth.
    """
    counts = confusion.double()
    return _where_true(_diagonal(counts) / counts.sum(-2), counts)


def f1_per_grade(confusion: Tensor) -> Tensor:
    """F1 of each grade against the rest.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ... x K, in [0, 1], NaN for a grade that does not occur in the truth.
    """
    counts = confusion.double()
    occurrences = counts.sum(-1) + counts.sum(-2)  # 2 TP + FN + FP
    return _where_true(2 * _diagonal(counts) / occurrences, counts)


def f1_macro(confusion: Tensor) -> Tensor:
    """Mean F1 over the grades that occur in truth or prediction, as scikit-learn defines it.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, 1], NaN without any knee.
    """
    return _macro(f1_per_grade(confusion).nan_to_num(0), confusion)


def precision_macro(confusion: Tensor) -> Tensor:
    """Mean precision over the grades that occur in truth or prediction, 0 for one that is never predicted.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, 1], NaN without any knee.
    """
    return _macro(precision_per_grade(confusion).nan_to_num(0), confusion)


def recall_macro(confusion: Tensor) -> Tensor:
    """Mean recall over the grades that occur in truth or prediction, 0 for one that is in the prediction alone.

    Equal to `balanced_accuracy` where every predicted grade occurs in the truth.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, 1], NaN without any knee.
    """
    return _macro(recall_per_grade(confusion).nan_to_num(0), confusion)


def quadratic_kappa(confusion: Tensor) -> Tensor:
    """Agreement beyond chance with squared distance between grades as the weight (Cohen 1968).

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., at most 1 (0 is chance), NaN when truth and prediction are one and the same single grade.
    """
    return _kappa(confusion.double(), power=2)


def linear_kappa(confusion: Tensor) -> Tensor:
    """Agreement beyond chance with the distance between grades as the weight (Cohen 1968).

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., at most 1 (0 is chance), NaN when truth and prediction are one and the same single grade.
    """
    return _kappa(confusion.double(), power=1)


def mae(confusion: Tensor) -> Tensor:
    """Mean absolute error in grades.

    Args:
        confusion: Counts, ... x K x K, rows truth, columns prediction.

    Returns:
        Shape ..., in [0, K - 1], NaN without any knee.
    """
    counts = confusion.double()
    return (_distance(counts) * counts).sum((-2, -1)) / counts.sum((-2, -1))


def _kappa(counts: Tensor, power: int) -> Tensor:
    weights = _distance(counts) ** power
    chance = counts.sum(-1, keepdim=True) * counts.sum(-2, keepdim=True)
    observed = (weights * counts).sum((-2, -1)) * counts.sum((-2, -1))
    return 1 - observed / (weights * chance).sum((-2, -1))


def _macro(per_grade: Tensor, confusion: Tensor) -> Tensor:
    """Mean over the grades that occur in truth or prediction; the others must be 0."""
    occurs = (confusion.sum(-1) + confusion.sum(-2)) > 0
    return per_grade.sum(-1) / occurs.sum(-1)


def _where_true(per_grade: Tensor, counts: Tensor) -> Tensor:
    """Return values of grades, NaN for one that does not occur in the truth."""
    return per_grade.masked_fill(counts.sum(-1) == 0, torch.nan)


def _diagonal(counts: Tensor) -> Tensor:
    return counts.diagonal(dim1=-2, dim2=-1)


def _distance(counts: Tensor) -> Tensor:
    """Absolute distance between true and predicted grade, K x K."""
    grade = torch.arange(counts.shape[-1], dtype=counts.dtype, device=counts.device)
    return (grade[:, None] - grade[None, :]).abs()
