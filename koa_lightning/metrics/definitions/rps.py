"""Ranked probability score (Epstein 1969)."""

import numpy as np


def rps(probabilities: np.ndarray, grade: np.ndarray) -> np.ndarray:
    """Ranked probability score (Epstein 1969).

    Summed over the four steps between grades, so that for a certain prediction it is the absolute error.

    Args:
        probabilities: float64 N x 5, rows sum to 1.
        grade: True grade, int64 N, 0 to 4.

    Returns:
        float64 N, in [0, 4]; the metric is the mean over knees.
    """
    reference = np.eye(probabilities.shape[1])[grade]
    return np.square((probabilities - reference).cumsum(1)[:, :-1]).sum(1)
