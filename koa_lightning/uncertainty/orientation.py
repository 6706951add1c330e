"""The orientation check: inverted, upside-down or turned knees, learned from the upright ones.

The coarse pictures of the validation split, inverted and turned on purpose, are the wrong examples. For each of `WAYS`,
a linear discriminant (Fisher 1936) separates them from the original pictures. Only upright knees are needed, and a few
inverted ones among them do no harm.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_RIDGE = 0.1  # of the mean variance
ORDINARY = 0.97  # share of the original knees that stay below the limit, however poorly the two are separated

WAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted": lambda picture: -picture,
    "upside down": lambda picture: picture[:, ::-1],
    "a quarter turn": lambda picture: np.rot90(picture, 1, (1, 2)),
    "three quarter turns": lambda picture: np.rot90(picture, 3, (1, 2)),
    "half a turn": lambda picture: np.rot90(picture, 2, (1, 2)),
    "inverted and upside down": lambda picture: -picture[:, ::-1],
}


def fit(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Return weights (ways x D) and offsets (ways) of the discriminants.

    Args:
        pictures: Float, N x D, of square pictures of mean 0.
    """
    side = round(np.sqrt(pictures.shape[1]))
    squares = pictures.reshape(-1, side, side)
    rows = [_discriminant(pictures, way(squares).reshape(len(pictures), -1)) for way in WAYS.values()]
    weights, offsets = zip(*rows, strict=True)
    return {"weights": np.stack(weights), "offsets": np.array(offsets)}


def ratio(pictures: np.ndarray, model: dict[str, np.ndarray]) -> np.ndarray:
    """Return how much each picture resembles an inverted or turned one, float64 N: about 0 if upright, 1 at the limit.

    Args:
        pictures: Float, N x D.
        model: From `fit`.
    """
    return (pictures @ model["weights"].T + model["offsets"]).max(1)


def _discriminant(upright: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a weight vector and an offset that give 0 at the median upright picture, and 1 at the limit.

    The limit is half-way to the median turned picture, or higher if too many upright ones exceed that.
    """
    within = (np.cov(upright.T) + np.cov(turned.T)) / 2
    within += (_RIDGE * np.trace(within) / len(within) + 1e-12) * np.eye(len(within))
    weights = np.linalg.solve(within, turned.mean(0) - upright.mean(0))
    own, middle = upright @ weights, float(np.median(turned @ weights))
    centre = float(np.median(own))
    limit = max((centre + middle) / 2, float(np.quantile(own, ORDINARY)), centre + 1e-9)
    return weights / (limit - centre), -centre / (limit - centre)
