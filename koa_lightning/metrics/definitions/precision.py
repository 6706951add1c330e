"""Share of the knees predicted as each grade that truly have it."""

from torch import Tensor

from koa_lightning.metrics.confusion import diagonal, where_true


def precision(confusion: Tensor) -> Tensor:
    """Share of the knees predicted as each grade that truly have it.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 ... x K, in [0, 1]; NaN for a grade that is never predicted, or does not occur in the reference.
    """
    counts = confusion.double()
    return where_true(diagonal(counts) / counts.sum(-2), counts)
