"""Graded knees as arrays: the form in which intervals, comparisons and subgroups take a predictions table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from koa_lightning.errors import InputError
from koa_lightning.models import outputs

PROBABILITIES = [f"p{grade}" for grade in range(outputs.N_GRADES)]
TOLERANCE = 0.02  # of the sum of five probabilities; bfloat16 has eight bits


@dataclass(frozen=True)
class Graded:
    """Knees with their true grade and their probabilities.

    Attributes:
        grade: int64 N, 0 to 4.
        probabilities: float32 N x 5, as networks give them and `GradeMetrics` takes them.
        patient: int64 N, the number of each knee's patient, 0 to n_patients - 1.
        n_patients: Number of patients; a knee without a patient counts as its own.
    """

    grade: np.ndarray
    probabilities: np.ndarray
    patient: np.ndarray
    n_patients: int

    @cached_property
    def argmax(self) -> np.ndarray:
        """Return the most probable grade, int64 N; on a tie the lower one."""
        return self.probabilities.argmax(1)

    @cached_property
    def expected(self) -> np.ndarray:
        """Return the expected grade, float32 N, in [0, 4]."""
        return outputs.expected_grade(torch.from_numpy(self.probabilities)).numpy()

    @cached_property
    def rounded(self) -> np.ndarray:
        """Return the expected grade, rounded, int64 N."""
        return outputs.round_grade(torch.from_numpy(self.expected)).numpy()

    @cached_property
    def median(self) -> np.ndarray:
        """Return the median grade, int64 N."""
        return outputs.median_grade(torch.from_numpy(self.probabilities)).numpy()

    def reaches(self, grade: int) -> np.ndarray:
        """Return the probability of this grade or a higher one, float32 N."""
        return torch.from_numpy(self.probabilities)[:, grade:].sum(1).clamp(max=1).numpy()


def of_table(table: pd.DataFrame) -> Graded:
    """Return the labelled knees of a predictions table.

    Args:
        table: grade and p0 to p4, and patient where known; see `tables.read_predictions`, which checks them.

    Raises:
        InputError: No knee is labelled, or the numbers are not probabilities or grades.
    """
    rows = table[table["grade"].notna()]
    if rows.empty:
        raise InputError("no labelled knee: nothing can be computed; give a table with the true grade")
    patient, n_patients = patient_numbers(rows)
    probabilities = np.array(rows[PROBABILITIES], dtype=np.float32, order="C")
    if not ((probabilities >= -TOLERANCE).all() and (np.abs(probabilities.sum(1) - 1) <= TOLERANCE).all()):
        raise InputError("p0 to p4 are NaN, negative or do not sum to 1: give probabilities, not logits")
    if not rows["grade"].isin(range(outputs.N_GRADES)).all():
        raise InputError("true grades outside 0 to 4, or not integers: correct the table of knees")
    return Graded(rows["grade"].to_numpy(dtype=np.int64), probabilities, patient, n_patients)


def patient_numbers(table: pd.DataFrame) -> tuple[np.ndarray, int]:
    """Return a number for each row's patient, int64 N, and how many patients there are.

    A row without a patient counts as a patient of its own.

    Numbers follow the names' order, so that they do not depend on the order of the rows.
    """
    if "patient" not in table:
        return np.arange(len(table)), len(table)
    names = table["patient"].fillna("").astype("str").to_numpy(dtype=object)
    known = names != ""
    number = np.empty(len(names), dtype=np.int64)
    unique, number[known] = np.unique(names[known].astype("U"), return_inverse=True)
    alone = int((~known).sum())
    number[~known] = len(unique) + np.arange(alone)
    return number, len(unique) + alone


def stack(first: Graded, second: Graded) -> Graded:
    """Return the knees of both, with the patients of the second numbered after those of the first.

    Each model's predictions for a patient then have a weight of their own, even if both grade the same patients.
    """
    return Graded(
        np.concatenate([first.grade, second.grade]),
        np.concatenate([first.probabilities, second.probabilities]),
        np.concatenate([first.patient, second.patient + first.n_patients]),
        first.n_patients + second.n_patients,
    )
