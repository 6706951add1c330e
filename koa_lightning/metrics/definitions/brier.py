"""Brier score (1950), summed over the grades."""

import numpy as np


def brier(probabilities: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """Brier score (1950), summed over the grades.

    Args:
        probabilities: float64 N x 5, rows sum to 1.
        grade: True grade, int64 N, 0 to 4.

    Returns:
        float64 N, in [0, 2]; the metric is the mean over knees.
    """
    return np.square(probabilities - np.eye(probabilities.shape[1])[grade]).sum(1)
