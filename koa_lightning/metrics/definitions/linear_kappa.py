"""Agreement beyond chance, weighted by the distance between grades (Cohen 1968)."""

from torch import Tensor

from koa_lightning.metrics.confusion import kappa


def linear_kappa(confusion: Tensor) -> Tensor:
    """Agreement beyond chance, weighted by the distance between grades (Cohen 1968).

    Args:
        confusion: Counts, ... x K x K, rows reference, columns prediction.

    Returns:
        float64 of the leading shape, at most 1 (0 is chance); NaN when reference and prediction are the same
        grade.
    """
    return kappa(confusion, power=1)
