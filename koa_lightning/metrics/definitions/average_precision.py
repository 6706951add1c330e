"""Average precision of a grade or a higher one, as scikit-learn defines it."""

import numpy as np

from koa_lightning.metrics.ranking import Steps


def average_precision(steps: Steps) -> np.ndarray:
    """Average precision of a grade or a higher one, as scikit-learn defines it.

    Args:
        steps: Positive and negative weights by falling probability, B weightings.

    Returns:
        float64 B, in [0, 1]; NaN where only one class has weight.
    """
    n_true, n_false = steps.true[:, -1], steps.false[:, -1]
    precision = steps.true / np.maximum(steps.true + steps.false, np.finfo(float).tiny)
    return np.where(n_false > 0, (steps.new_true * precision).sum(1) / n_true, np.nan)
