"""How well probabilities agree with observed frequencies: proper scores, and the bins of a reliability diagram."""

from __future__ import annotations

from typing import Any

import numpy as np

from koa_lightning.metrics.graded import Graded
from koa_lightning.metrics.weighted import N_BINS, WeightedMetrics

SCORES = ("ece", "log_loss", "brier", "rps")


def scores(probabilities: np.ndarray, grade: np.ndarray) -> dict[str, float]:
    """Return ece, log_loss, brier and rps as `koa_lightning.metrics.weighted` defines them.

    Args:
        probabilities: Float, N x 5, rows sum to 1.
        grade: Integer true grade, N.
    """
    knees = Graded(grade, probabilities.astype(np.float32), np.arange(len(grade)), len(grade))
    values = WeightedMetrics(knees, only=SCORES)(np.ones((1, len(grade))))
    return {name: float(values[name][0]) for name in SCORES}


def bins(confidence: np.ndarray, happened: np.ndarray) -> list[dict[str, Any]]:
    """Return the bins of equal width of a reliability diagram; an empty one has neither confidence nor share.

    Args:
        confidence: Float, N, in [0, 1].
        happened: Bool, N.

    Returns:
        `low`, `high`, `n`, mean `confidence`, and `share`, the observed frequency.
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
