"""Whether predictions are any better than always giving one grade."""

from __future__ import annotations

import numpy as np

from koa_lightning.models.outputs import N_GRADES


def no_better(grade: np.ndarray, predicted: np.ndarray) -> str:
    """Return a remark if always giving one grade is as good as the predictions, else an empty string.

    To be better, predictions must beat every constant grade in accuracy, or every constant grade in mean absolute
    error: an ordinal model may give up accuracy for small errors.

    Args:
        grade: True grade, integer N, 0 to 4.
        predicted: Predicted grade, integer N, 0 to 4.
    """
    if not len(grade):
        return ""
    distance = np.abs(grade[:, None] - np.arange(N_GRADES))
    accuracy, error = (distance == 0).mean(0), distance.mean(0)
    own, own_error = float((predicted == grade).mean()), float(np.abs(predicted - grade).mean())
    if own > accuracy.max() or own_error < error.min():
        return ""
    share = f"{accuracy.max():.3f}".removeprefix("0")
    return f"no better than always grade {int(accuracy.argmax())} (accuracy {share})"
