"""How far probabilities are what happens: proper scores, and the bins of a reliability diagram."""

from __future__ import annotations

from typing import Any

import numpy as np

N_BINS = 15  # as `ece` of `koa_lightning.metrics`
_SMALLEST = 1e-7  # of a probability in the log loss; float32 has no finer ones near 1


def scores(probabilities: np.ndarray, grade: np.ndarray) -> dict[str, float]:
    """Return ece (Guo et al. 2017), log_loss, brier (summed over grades) and rps (Epstein 1969, summed over steps).

    Args:
        probabilities: Float, N x 5, rows sum to 1.
        grade: Integer true grade, N.
    """
    p, truth = probabilities.astype(np.float64), np.eye(probabilities.shape[1])[grade]
    top = bins(probabilities.max(1), probabilities.argmax(1) == grade)
    gaps = sum(row["n"] * abs(row["confidence"] - row["share"]) for row in top if row["n"])
    return {
        "ece": float(gaps / len(p)),
        "log_loss": log_loss(probabilities, grade),
        "brier": float(np.square(p - truth).sum(1).mean()),
        "rps": float(np.square((p - truth).cumsum(1)[:, :-1]).sum(1).mean()),
    }


def log_loss(probabilities: np.ndarray, grade: np.ndarray) -> float:
    """Return the mean of - log p(true grade).

    Args:
        probabilities: Float, N x K.
        grade: Integer true grade, N.
    """
    own = probabilities[np.arange(len(grade)), grade].astype(np.float64)
    return float(-np.log(np.clip(own, _SMALLEST, 1)).mean())


def bins(confidence: np.ndarray, happened: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins of equal width of a reliability diagram; an empty one has neither confidence nor share.

    Args:
        confidence: Float, N, in [0, 1].
        happened: Bool, N.

    Returns:
        `low`, `high`, `n`, mean `confidence`, `share` of what happened.
    """
    place = np.clip((np.asarray(confidence, dtype=np.float64) * N_BINS).astype(int), 0, N_BINS - 1)
    rows = []
    for each in range(N_BINS):
        own = place == each
        n = int(own.sum())
        means = (float(confidence[own].mean(dtype=np.float64)), float(happened[own].mean())) if n else (None, None)
        edges = {"low": each / N_BINS, "high": (each + 1) / N_BINS}
        rows.append({**edges, "n": n, "confidence": means[0], "share": means[1]})
    return rows
