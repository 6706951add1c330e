"""Mean precision over the grades that occur in reference or prediction, 0 for one that is never predicted."""

from torch import Tensor

from koa_lightning.metrics.confusion import macro
from koa_lightning.metrics.definitions.precision import precision


def precision_macro(confusion: Tensor) -> Tensor:
    """Mean precision over the grades that occur in reference or prediction, 0 for one that is never predicted.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, 1]; NaN without any knee.
    """
    return macro(precision(confusion).nan_to_num(0), confusion)
