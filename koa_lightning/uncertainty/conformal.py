"""Conformal sets of neighbouring grades that contain the true one at a nominal coverage: "1 or 2".

A set grows from the most probable grade to the more probable of its two neighbours, and so on (ordinal adaptive
prediction sets, Lu, Angelopoulos and Pomerantz 2022); a grade's score is the probability that the set holds before the
grade joins it. The set of a knee is every grade with a score up to the conformal quantile, so it is contiguous and
never empty.

The conformal quantile is that of the true grades' scores on the validation split. Only patients are exchangeable, not
knees, because the two knees of a patient are alike. So every patient has the same weight, and so has one more, unknown
patient, whose score is taken to be the highest (Lee, Barber and Willett 2023). The coverage holds for a random knee of
a new patient, on average over validation splits: P(true grade in the set) >= 1 - alpha. It is marginal: it holds
neither for each grade nor for knees from elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from koa_lightning.checkpoint.fitted import ALPHAS, EVERYTHING, ConformalSets
from koa_lightning.errors import InputError
from koa_lightning.uncertainty import patients

ALPHA = 0.1


def scores(probabilities: np.ndarray) -> np.ndarray:
    """Return for each grade the probability that the growing set holds before the grade joins it.

    Args:
        probabilities: Float, N x K, rows sum to 1.

    Returns:
        float64, N x K, in [0, 1]; 0 for the most probable grade. Of equally probable neighbours the lower joins first.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    rows, last = np.arange(len(p)), p.shape[1] - 1
    low = high = p.argmax(1)
    held, score = p[rows, low], np.zeros_like(p)
    for _ in range(last):
        left = np.where(low > 0, p[rows, np.maximum(low - 1, 0)], -1.0)
        right = np.where(high < last, p[rows, np.minimum(high + 1, last)], -1.0)
        upwards = right > left
        joins = np.where(upwards, high + 1, low - 1)
        score[rows, joins] = np.minimum(held, EVERYTHING)
        held = held + p[rows, joins]
        low, high = np.where(upwards, low, joins), np.where(upwards, joins, high)
    return score


def quantile(score: np.ndarray, group: np.ndarray, alpha: float) -> float:
    """Return the score up to which grades belong to a set, so that 1 - alpha of the knees of new patients are covered.

    Args:
        score: Score of each knee's true grade, N.
        group: From `patients.groups`; a group per knee gives the usual split conformal quantile.
        alpha: Share that may be missed.

    Returns:
        One of the scores, or `EVERYTHING` where there are too few patients for this alpha.
    """
    order = np.argsort(score, kind="stable")
    n_patients = len(np.unique(group))
    reached = np.cumsum(patients.shares(group)[order]) * n_patients / (n_patients + 1)
    first = int(np.searchsorted(reached, 1 - alpha - 1e-12))
    return float(score[order[first]]) if first < len(score) else EVERYTHING


def sets(probabilities: np.ndarray, up_to: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest grade of each knee's set, int64 N.

    Args:
        probabilities: Float, N x K.
        up_to: From `quantile`.
    """
    members = scores(probabilities) <= up_to
    return members.argmax(1), members.shape[1] - 1 - members[:, ::-1].argmax(1)


def fit(probabilities: np.ndarray, grade: np.ndarray, group: np.ndarray) -> ConformalSets:
    """Return the quantile of each alpha in `ALPHAS` for the checkpoint, so that a user can choose one later.

    Args:
        probabilities: Float, N x 5, of the validation split, as the checkpoint will give them.
        grade: Integer true grade, N.
        group: From `patients.groups`.
    """
    own = scores(probabilities)[np.arange(len(grade)), grade]
    quantiles = tuple(quantile(own, group, alpha) for alpha in ALPHAS)
    return ConformalSets(quantiles=quantiles, n_patients=len(np.unique(group)))


def chosen(entry: ConformalSets, alpha: float) -> float:
    """Return a checkpoint's quantile for an alpha in `ALPHAS`."""
    return entry.quantiles[place(alpha)]


def place(alpha: float) -> int:
    """Return the position of an alpha in `ALPHAS`.

    Raises:
        InputError: It is not in `ALPHAS`.
    """
    row = round(alpha * 100) - 1
    if not 0 <= row < len(ALPHAS) or abs(ALPHAS[row] - alpha) > 1e-9:
        raise InputError(f"alpha={alpha:g}: must be one of 0.01, 0.02 ... {ALPHAS[-1]:g}")
    return row


def words(low: int, high: int) -> str:
    """Return a set in words: `2`, `1 or 2`, `1 to 3`."""
    if low == high:
        return f"{low}"
    return f"{low} or {high}" if high == low + 1 else f"{low} to {high}"


def evaluate(low: np.ndarray, high: np.ndarray, grade: np.ndarray, alpha: float) -> dict[str, Any]:
    """Return coverage and sizes of the sets, over all knees and by true grade; a grade without knees has no coverage.

    Args:
        low: From `sets`.
        high: From `sets`.
        grade: Integer true grade, N.
        alpha: One minus the nominal coverage.
    """
    covered, size = (low <= grade) & (grade <= high), high - low + 1
    by_grade = {}
    for each in range(5):
        own = grade == each
        n = int(own.sum())
        mean = {"coverage": float(covered[own].mean()), "size": float(size[own].mean())} if n else {}
        by_grade[str(each)] = {"n": n, "coverage": None, "size": None, **mean}
    counts = {str(k): int((size == k).sum()) for k in range(1, 6)}
    return {
        "alpha": alpha,
        "target": 1 - alpha,
        "coverage": float(covered.mean()),
        "mean_size": float(size.mean()),
        "by_grade": by_grade,
        "sizes": counts,
        "n_knees": len(grade),
    }
