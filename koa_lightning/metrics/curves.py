"""Curves of one grade against the rest: ROC and precision-recall, ready to draw; nothing here draws."""

from __future__ import annotations

import numpy as np

MOST_POINTS = 400  # a longer curve is thinned out; its area is that of all points


def roc(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return false positive rate, true positive rate, and the area under them, at every threshold.

    Args:
        positive: bool, N.
        score: Float, N, higher for the positive.

    Returns:
        Two float64 arrays from (0, 0) to (1, 1), and the area (a tie counts half); NaN where a class is absent.
    """
    true, false = _counts(positive, score)
    if not len(true) or not true[-1] or not false[-1]:
        return np.empty(0), np.empty(0), float("nan")
    x, y = np.r_[0, false / false[-1]], np.r_[0, true / true[-1]]
    return *thinned(x, y), float(np.trapezoid(y, x))


def precision_recall(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return recall, precision, and the average precision (sum of precision x gain in recall, as in scikit-learn).

    Args:
        positive: bool, N.
        score: Float, N, higher for the positive.

    Returns:
        Two float64 arrays by rising recall, and the average precision; NaN without a positive.
    """
    true, false = _counts(positive, score)
    if not len(true) or not true[-1]:
        return np.empty(0), np.empty(0), float("nan")
    recall, precision = true / true[-1], true / (true + false)
    area = float(np.sum(np.diff(recall, prepend=0) * precision))
    return *thinned(recall, precision), area


def _counts(positive: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return true and false positives at each distinct threshold, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ranked, descending = positive[order], score[order]
    last = np.flatnonzero(np.diff(descending, append=-np.inf))  # equal scores count together
    true = np.cumsum(ranked)[last]
    return true.astype(np.float64), (last + 1 - true).astype(np.float64)


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Return at most `most` points of a curve, including the first and the last."""
    if len(x) <= most:
        return x, y
    kept = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[kept], y[kept]
