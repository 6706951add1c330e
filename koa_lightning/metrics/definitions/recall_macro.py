"""Mean recall over the grades that occur in reference or prediction, 0 for one that is only in the prediction."""

from torch import Tensor

from koa_lightning.metrics.confusion import macro
from koa_lightning.metrics.definitions.recall import recall


def recall_macro(confusion: Tensor) -> Tensor:
    """Mean recall over the grades that occur in reference or prediction, 0 for one that is only in the prediction.

    Equal to `balanced_accuracy` if every predicted grade occurs in the reference.

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, in [0, 1]; NaN without any knee.
    """
    return macro(recall(confusion).nan_to_num(0), confusion)
