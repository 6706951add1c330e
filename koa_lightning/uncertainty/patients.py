"""Groups and folds by patient, because the two knees of a patient are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.metrics.graded import patient_numbers

FOLDS = 5


def groups(patients: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return the number of each knee's patient, int64 N; a knee without a patient counts as its own."""
    return patient_numbers(pd.DataFrame({"patient": pd.Series(list(patients), dtype=object)}))[0]


def folds(group: np.ndarray, n: int = FOLDS) -> np.ndarray:
    """Return the fold 0 ... n - 1 of each knee: whole patients, and the same at every call.

    Args:
        group: From `groups`.
        n: Number of folds.
    """
    return group % n


def shares(group: np.ndarray) -> np.ndarray:
    """Return the weight of each knee, float64 N: every patient has the same weight, and the weights sum to 1."""
    knees = np.bincount(group)
    return 1.0 / knees[group] / (knees > 0).sum()
