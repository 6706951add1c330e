"""Whether grades are any better than always answering one grade."""

from __future__ import annotations

import numpy as np

from koa_lightning.models.outputs import N_GRADES


def no_better(grade: np.ndarray, predicted: np.ndarray) -> str:
    """Return a line where answering one grade always is as good, or an empty string.

    As good means that no grade given to all knees has a lower accuracy than the predictions, and none a larger mean
    absolute error: an ordinal model may give up accuracy for errors that are small.

    Args:
        grade: True grade, integer N, 0 to 4.
        predicted: The same of a model.
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
