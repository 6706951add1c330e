"""Mean F1 over the grades that occur in reference or prediction, as scikit-learn defines it."""

from torch import Tensor

from koa_lightning.metrics.confusion import macro
from koa_lightning.metrics.definitions.f1 import f1


def f1_macro(confusion: Tensor) -> Tensor:
    """Mean F1 over the grades that occur in reference or prediction, as scikit-learn defines it.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, 1]; NaN without any knee.
    """
    return macro(f1(confusion).nan_to_num(0), confusion)
