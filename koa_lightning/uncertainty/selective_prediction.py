"""Selective prediction: how the share of wrong grades falls when a reader grades the unsure knees."""

from __future__ import annotations

import numpy as np

from koa_lightning.checkpoint.fitted import ROWS, SelectivePrediction
from koa_lightning.errors import InputError


def risks(confidence: np.ndarray, is_wrong: np.ndarray) -> np.ndarray:
    """Return the share of wrong grades among the k most confident knees, k = 1 ... N, float64 N.

    Knees of equal confidence share their mistakes evenly, because they have no order.

    Args:
        confidence: Float, N; the probability of the grade that is given.
        is_wrong: Bool, N.
    """
    order = np.argsort(-confidence, kind="stable")
    _, tied, n_tied = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    even = np.bincount(tied, weights=is_wrong[order].astype(np.float64)) / n_tied
    return np.cumsum(even[tied]) / np.arange(1, len(order) + 1)


def aurc(risk: np.ndarray) -> float:
    """Return the area under the risk-coverage curve: the mean risk over all coverages (Geifman et al. 2019).

    Args:
        risk: From `risks`.
    """
    return float(np.mean(risk))


def best_aurc(risk: np.ndarray) -> float:
    """Return the smallest possible area for these knees: all wrong ones last.

    Args:
        risk: From `risks`.
    """
    n = len(risk)
    n_wrong = round(float(risk[-1]) * n)
    return float(np.mean(np.maximum(0, np.arange(1, n + 1) - (n - n_wrong)) / np.arange(1, n + 1)))


def curve(confidence: np.ndarray, is_wrong: np.ndarray) -> list[tuple[float, float, float]]:
    """Return rows of threshold, coverage and risk, at most `ROWS`, the highest threshold first.

    Knees at or above the threshold are graded. Coverage is their share, and risk the share of wrong grades among them
    (selective risk, Geifman and El-Yaniv 2017).

    Args:
        confidence: Float, N.
        is_wrong: Bool, N.
    """
    n = len(confidence)
    falling = np.sort(confidence)[::-1]
    places = np.unique(np.ceil(np.linspace(1 / ROWS, 1, ROWS) * n).astype(int)) - 1
    rows = []
    for threshold in np.unique(falling[places])[::-1]:
        graded = confidence >= threshold
        rows.append((float(threshold), float(graded.mean()), float(is_wrong[graded].mean())))
    return rows


def fit(confidence: np.ndarray, is_wrong: np.ndarray) -> SelectivePrediction:
    """Return the curve of the validation split for the checkpoint, from which a threshold can be chosen later."""
    return SelectivePrediction(curve=tuple(curve(confidence, is_wrong)), n_knees=len(confidence))


def threshold_for(entry: SelectivePrediction, risk: float) -> float:
    """Return the lowest threshold at which the validation split's share of wrong grades is at most `risk`.

    Raises:
        InputError: No threshold reaches it.
    """
    fitting = [row for row in entry.curve if row[2] <= risk]
    if not fitting:
        least = min(entry.curve, key=lambda row: row[2])
        raise InputError(
            f"refer_risk={risk:g}: no threshold reaches it on the validation split; the lowest error rate was "
            f"{least[2]:.3f}, with {1 - least[1]:.0%} of the knees referred"
        )
    return float(max(fitting, key=lambda row: row[1])[0])
