"""Agreement between readers, and of the model with them, from a predictions table that holds the readers' grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.config.compose import nearest
from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import Graded, of_table, patient_numbers
from koa_lightning.metrics.intervals import LEVEL, N_RESAMPLES, of_graded
from koa_lightning.metrics.weighted import WeightedMetrics
from koa_lightning.models.outputs import N_GRADES

REFERENCE, MODEL = "truth", "model"  # tables keep these names
COLUMNS = ["first", "second", "n_knees", "n_patients", "metric", "value", "low", "high", "note"]


def agreement(
    table: pd.DataFrame,
    readers: Sequence[str],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return the agreement of each pair of reference, readers and model, with intervals by bootstrap over patients.

    Args:
        table: Predictions, with a column of grades (0 to 4, empty where not read) for each reader.
        readers: Names of these columns.
        n_resamples: As for `with_intervals`, as are the next three.
        seed: Of the resamples.
        level: Of the intervals.
        thresholds: For the model's grade by tuned thresholds (`model_tuned`).

    Returns:
        One row per pair and metric: first, second, n_knees (read by both), n_patients, metric, value, low, high, note.
        The model appears once per rule: `model` (arg-max), `model_expected`, `model_median`, and `model_tuned` if
        there are thresholds.

    Raises:
        InputError: A column is missing, or contains anything but grades.
    """
    check(table, readers)
    labelled = table[table["grade"].notna()].reset_index(drop=True)
    metrics = WeightedMetrics(of_table(labelled), thresholds, only=())
    model = {f"{MODEL}{rule}": grade.astype(float) for rule, grade in metrics.predicted.items()}
    numbers = {name: pd.to_numeric(labelled[name], errors="coerce") for name in readers}  # `check` allows blanks
    read = {name: column.to_numpy(dtype=float, na_value=np.nan) for name, column in numbers.items()}
    compared = chosen("between_readers")
    grades = {REFERENCE: labelled["grade"].to_numpy(dtype=float), **read, **model}
    rows: list[dict[str, Any]] = []
    for first, second in combinations(grades, 2):
        if first in model and second in model:
            continue
        both = np.isfinite(grades[first]) & np.isfinite(grades[second])
        patient, n_patients = patient_numbers(labelled[both])
        head = {"first": first, "second": second, "n_knees": int(both.sum()), "n_patients": n_patients}
        if not both.any():
            rows += [{**head, "metric": name, "note": "no knee has both grades"} for name in compared]
            continue
        certain = np.eye(N_GRADES, dtype=np.float32)[grades[second][both].astype(int)]
        pair = Graded(grades[first][both].astype(np.int64), certain, patient, n_patients)
        found = of_graded(pair, n_resamples=n_resamples, seed=seed, level=level, only=compared)
        rows += [{**head, "metric": name, **asdict(each)} for name, each in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def check(table: pd.DataFrame, readers: Sequence[str]) -> None:
    """Stop if a column is missing, or contains anything but grades.

    Raises:
        InputError: It names the column.
    """
    for name in readers:
        if name not in table:
            have = ", ".join(map(str, table.columns))
            raise InputError(f"readers={name}: no such column{nearest(name, list(table.columns))} (there are {have})")
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name].notna() & (table[name].astype("str").str.strip() != "") & ~numbers.isin(range(N_GRADES))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise InputError(f"readers={name}: line {row + 2}: '{table[name].iloc[row]}' is not one of 0, 1, 2, 3, 4")
        if numbers.isna().all():
            raise InputError(f"readers={name}: the column is empty; give one with the reader's grades")
