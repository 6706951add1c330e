"""Share of the knees of each true grade that are predicted as such."""

from torch import Tensor

from koa_lightning.metrics.confusion import diagonal


def recall(confusion: Tensor) -> Tensor:
    """Share of the knees of each true grade that are predicted as such.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 ... x K, in [0, 1]; NaN for a grade that does not occur in the reference.
    """
    counts = confusion.double()
    return diagonal(counts) / counts.sum(-1)
