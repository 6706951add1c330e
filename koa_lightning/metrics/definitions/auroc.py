"""Area under the ROC curve of a grade or a higher one; a tie counts half."""

import numpy as np

from koa_lightning.metrics.ranking import Steps


def auroc(steps: Steps) -> np.ndarray:
    """Area under the ROC curve of a grade or a higher one; a tie counts half.

    Args:
        steps: Positive and negative weights by falling probability, B weightings.

    Returns:
        float64 B, in [0, 1]; NaN where only one class has weight.
    """
    n_true, n_false = steps.true[:, -1], steps.false[:, -1]
    return (steps.new_false * (steps.true - steps.new_true / 2)).sum(1) / (n_true * n_false)
