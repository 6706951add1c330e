"""Knees ranked by a probability, to compute AUROC and average precision for many weightings at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from koa_lightning.metrics.graded import Graded


@dataclass(frozen=True)
class Steps:
    """Weights above each distinct probability, from the highest down; knees of equal probability are one step.

    Attributes:
        true: Weight of the positive knees so far, float64 B x S.
        false: Weight of the negative knees so far.
    """

    true: np.ndarray
    false: np.ndarray

    @cached_property
    def new_true(self) -> np.ndarray:
        """Return the positive weight that each step adds, float64 B x S."""
        return np.diff(self.true, axis=1, prepend=0)

    @cached_property
    def new_false(self) -> np.ndarray:
        """Return the negative weight that each step adds, float64 B x S."""
        return np.diff(self.false, axis=1, prepend=0)


class Ranks:
    """Knees in falling order of the probability of a grade or a higher one.

    Args:
        knees: Their grades and probabilities.
        grade: The lowest grade that is positive.
    """

    def __init__(self, knees: Graded, grade: int) -> None:
        score = knees.reaches(grade)
        order = np.argsort(-score, kind="stable")
        self.patient = knees.patient[order]
        self.positive = knees.grade[order] >= grade
        self.last = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # the last knee of each step

    def steps(self, weights: np.ndarray) -> Steps:
        """Return the cumulative weights of both classes.

        Args:
            weights: Of the patients, B x n_patients.
        """
        of_knee = weights[:, self.patient]
        true = np.cumsum(of_knee * self.positive, axis=1)[:, self.last]
        false = np.cumsum(of_knee * ~self.positive, axis=1)[:, self.last]
        return Steps(true, false)
