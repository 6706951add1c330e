"""Mean recall over the grades that occur in the reference, as scikit-learn defines it."""

from torch import Tensor

from koa_lightning.metrics.definitions.recall import recall


def balanced_accuracy(confusion: Tensor) -> Tensor:
    """Mean recall over the grades that occur in the reference, as scikit-learn defines it.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, 1]; NaN without any knee.
    """
    return recall(confusion).nanmean(-1)
