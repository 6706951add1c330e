"""How far a description is from those of many knees: Mahalanobis distance in more dimensions than there are knees.

The covariance is free along its main directions and has one variance in all others (probabilistic principal components,
Tipping and Bishop 1999).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_DIRECTIONS = 48
_TRIMMED = 0.02  # share of the most unusual knees, omitted from the fit: one in a hundred of Chen 2018 is inverted


def fit(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of `reference.GAUSSIAN`, fitted twice: the second time without the most unusual knees.

    Args:
        values: Float, N x D, N at least some dozens.
    """
    distances = distance(values, _fit_once(values))
    return _fit_once(values[distances <= np.quantile(distances, 1 - _TRIMMED)])


def distance(values: np.ndarray, model: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the Mahalanobis distance divided by the root of D, float64 N: about 1 for the knees of the fit.

    Args:
        values: Float, N x D.
        model: From `fit`.
    """
    apart = (values - model["mean"]) / model["scale"]
    along = apart @ model["directions"].T
    beside = np.maximum((apart**2).sum(1) - (along**2).sum(1), 0)
    squared = (along**2 / model["variances"]).sum(1) + beside / float(model["rest"])
    return np.sqrt(squared / values.shape[1])


def _fit_once(values: np.ndarray) -> dict[str, np.ndarray]:
    n, size = values.shape
    mean, spread = values.mean(0), values.std(0)
    scale = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-6))
    _, singular, directions = np.linalg.svd((values - mean) / scale, full_matrices=False)
    variances = singular**2 / max(n - 1, 1)
    kept = max(1, min(_DIRECTIONS, n // 8, size - 1))
    rest = max(float(variances[kept:].sum()) / (size - kept), 1e-3 * float(variances[0]), 1e-12)
    return {
        "mean": mean,
        "scale": scale,
        "directions": directions[:kept],
        "variances": np.maximum(variances[:kept], rest),
        "rest": np.array(rest),
    }
