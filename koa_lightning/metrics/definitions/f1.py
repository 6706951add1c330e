"""F1 of each grade against the rest."""

from torch import Tensor

from koa_lightning.metrics.confusion import diagonal, where_true


def f1(confusion: Tensor) -> Tensor:
    """F1 of each grade against the rest.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 ... x K, in [0, 1]; NaN for a grade that does not occur in the reference.
    """
    counts = confusion.double()
    occurrences = counts.sum(-1) + counts.sum(-2)  # 2 TP + FN + FP
    return where_true(2 * diagonal(counts) / occurrences, counts)
