"""Share of knees whose predicted grade is the true one."""

from torch import Tensor

from koa_lightning.metrics.confusion import diagonal


def accuracy(confusion: Tensor) -> Tensor:
    """Share of knees whose predicted grade is the true one.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, 1]; NaN without any knee.
    """
    counts = confusion.double()
    return diagonal(counts).sum(-1) / counts.sum((-2, -1))
