"""Negative logarithm of the probability of the true grade."""

import numpy as np

SMALLEST = 1e-7  # float32 has no finer probabilities near 1


def log_loss(probabilities: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """Negative logarithm of the probability of the true grade.

    A probability below 1e-7 counts as 1e-7, so that an impossible grade costs 16 and not infinity.

    Args:
        probabilities: float64 N x 5, rows sum to 1.
        grade: True grade, int64 N, 0 to 4.

    Returns:
        float64 N, at least 0; the metric is the mean over knees.
    """
    return -np.log(np.clip(probabilities[np.arange(len(grade)), grade], SMALLEST, 1))
