"""Expected calibration error of the most probable grade, 15 bins of equal width (Guo 2017)."""

import numpy as np


def ece(probabilities: np.ndarray, grade: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Expected calibration error of the most probable grade, 15 bins of equal width (Guo 2017).

    Args:
        probabilities: float64 N x 5, rows sum to 1.
        grade: True grade, int64 N, 0 to 4.

    Returns:
        Predicted probability, float N x 1, and whether the prediction was right, bool of the same shape.
    """
    predicted = probabilities.argmax(1)
    return probabilities.max(1)[:, None], (predicted == grade)[:, None]
