"""Mean absolute error in grades."""

from torch import Tensor

from koa_lightning.metrics.confusion import distance


def mae(confusion: Tensor) -> Tensor:
    """Mean absolute error in grades.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, K - 1]; NaN without any knee.
    """
    counts = confusion.double()
    return (distance(counts) * counts).sum((-2, -1)) / counts.sum((-2, -1))
