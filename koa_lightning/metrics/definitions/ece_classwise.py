"""Calibration error of every grade, mean over the grades, 15 bins of equal width (Kull 2019)."""

import numpy as np


def ece_classwise(probabilities: np.ndarray, grade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Calibration error of every grade, mean over the grades, 15 bins of equal width (Kull 2019).

    Args:
        probabilities: float64 N x 5, rows sum to 1.
        grade: True grade, int64 N, 0 to 4.

    Returns:
        Predicted probability, float N x 5, and whether the knee has that grade, bool of the same shape.
    """
    return probabilities, grade[:, None] == np.arange(probabilities.shape[1])
