"""How far a network's features are from those of known knees: the angle to the nearest of them.

The cosine distance to the k-th nearest neighbour, after Sun et al. (2022). An image without a knee has short features:
by the usual distances they are near the centre of all knees, but they point in another direction.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_PROTOTYPES = 150  # knees that are kept, at most
_NUMBERS = 230_000  # values in all kept features, at most
_K = 5


def fit(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the features, scaled to length 1, of knees at regular intervals in the rows: m x C.

    Args:
        values: Float, N x C.
    """
    n, size = values.shape
    kept = max(1, min(n, _PROTOTYPES, _NUMBERS // size))
    return {"prototypes": _unit(values[np.linspace(0, n - 1, kept).astype(int)])}


def distance(values: np.ndarray, model: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return 1 - cosine to the fifth nearest of the kept knees, float64 N, in [0, 2].

    Args:
        values: Float, N x C.
        model: From `fit`.
    """
    cosines = _unit(values) @ model["prototypes"].T
    nearest = min(_K, cosines.shape[1])
    return 1 - np.partition(cosines, -nearest, axis=1)[:, -nearest]


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
