"""Read and check predictions tables from anywhere; anything else is refused with a one-line error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data.patients import implausible
from koa_lightning.data.user_tables import read_table
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import PROBABILITIES, TOLERANCE
from koa_lightning.models.outputs import N_GRADES

_ENOUGH = 20  # fewest rows from which to conclude anything about the agreement of columns
_SAME = 0.99  # share of rows in which two columns agree when one was made from the other, rounding aside
_HINT = "give a table with grade (the true one) and p0 to p4, and path, patient and side where known"


def read_predictions(path: str | Path, *, logits: bool = False, where: str | None = None) -> pd.DataFrame:
    """Read a predictions table, of `eval` or of another program, and check it.

    Args:
        path: A CSV or Parquet file, or a folder of `eval` with `predictions.parquet` or `predictions.csv`.
        logits: p0 to p4 hold logits (or log probabilities); they become probabilities by softmax.
        where: The table's name for messages; None: the path.

    Returns:
        The table with path, patient, side (empty text where unknown), grade (Int64, unknown ones empty), p0 to p4; all
        other columns are kept.

    Raises:
        InputError: The file is missing, is not a table, or holds no predictions.
    """
    name = str(path) if where is None else where
    file = user_path(path)
    if file.is_dir():
        inside = [file / "predictions.parquet", file / "predictions.csv"]
        found = [each for each in inside if each.is_file()]
        if not found:
            raise InputError(f"{name}: no predictions.parquet or predictions.csv in this folder; name the table")
        file = found[0]
    if not file.is_file():
        raise InputError(f"{name}: there is no such file; name a predictions table (CSV or Parquet), or eval's folder")
    rows = check_predictions(read_table(file), name, logits=logits)
    if why := implausible(rows, "the column patient"):
        _warn(name, f"{why}: intervals by these patients are meaningless")
    return rows


def check_predictions(table: pd.DataFrame, where: str, *, logits: bool = False) -> pd.DataFrame:
    """Return a predictions table in the form that the metrics take; see `read_predictions`.

    Raises:
        InputError: It says what is wrong, in which line, and what to do.
    """
    if table.empty:
        raise InputError(f"{where}: the table has no rows; {_HINT}")
    if missing := [column for column in ("grade", *PROBABILITIES) if column not in table]:
        have = ", ".join(map(str, table.columns[:12]))
        raise InputError(f"{where}: column '{missing[0]}' is missing; it has {have}; {_HINT}")
    rows = table.reset_index(drop=True).copy()
    rows["grade"] = _grades(rows["grade"], where)
    values = _numbers(rows, where)
    rows[PROBABILITIES] = _softmax(values, where) if logits else _probabilities(values, where)
    for column in ("path", "patient", "side"):
        texts = rows[column].fillna("").astype("str").str.strip() if column in rows else ""
        rows[column] = pd.Series(texts, index=rows.index, dtype="str")
    rows["patient"] = rows["patient"].str.normalize("NFC")  # as the manifest has it
    _check_twice(rows, where)
    _check_swapped(rows, where)
    return rows


def _grades(grade: pd.Series, where: str) -> pd.Series:
    numbers = pd.to_numeric(grade, errors="coerce")
    text = grade.astype("str").str.strip()
    empty = grade.isna() | (text == "")
    wrong = ~empty & ~numbers.isin(range(N_GRADES))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{where}: line {row + 2}: grade '{text[row]}' is not one of 0, 1, 2, 3, 4 (empty: unknown)")
    if empty.all():
        raise InputError(f"{where}: the column grade is empty: nothing can be computed without the true grade")
    return numbers.where(~empty).astype("Int64")


def _numbers(rows: pd.DataFrame, where: str) -> np.ndarray:
    try:
        values = rows[PROBABILITIES].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(f"{where}: p0 to p4 must be numbers") from None
    unknown = ~np.isfinite(values).all(axis=1)
    if unknown.any():
        row = int(np.argmax(unknown))
        raise InputError(
            f"{where}: line {row + 2}: p0 to p4 must be numbers, but one is empty, NaN or infinite "
            f"({int(unknown.sum())} such lines); remove these knees, and report that you did"
        )
    return values


def _probabilities(values: np.ndarray, where: str) -> np.ndarray:
    """Return the values if they are probabilities; else raise an error that says what they look like."""
    wrong = (values < -TOLERANCE).any(axis=1) | (np.abs(values.sum(axis=1) - 1) > TOLERANCE)
    if wrong.any():
        _refuse(values, int(np.argmax(wrong)), int(wrong.sum()), where)
    return values


def _refuse(values: np.ndarray, row: int, n_wrong: int, where: str) -> NoReturn:
    sums, lowest, highest = values.sum(axis=1), values.min(), values.max()
    what = f"{where}: line {row + 2}: p0 to p4 sum to {sums[row]:.4g}, not 1 ({n_wrong} such lines of {len(values)})"
    if lowest < -TOLERANCE or (highest > 1 + TOLERANCE and np.ptp(sums) > 1):
        span = f"{lowest:.3g} to {highest:.3g}"
        raise InputError(f"{what}; values from {span} look like logits: if they are, type logits=true")
    if np.abs(sums - 100).max() <= 100 * TOLERANCE:
        raise InputError(f"{what}; they look like percent: divide them by 100")
    if (np.diff(values, axis=1) <= TOLERANCE).all() and np.abs(values[:, 0] - 1).max() <= TOLERANCE:
        raise InputError(f"{what}; they look like P(grade >= k), falling from 1: give the differences")
    raise InputError(f"{what}; give probabilities of the five grades, or logits with logits=true")


def _softmax(values: np.ndarray, where: str) -> np.ndarray:
    if ((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= TOLERANCE)).all():
        raise InputError(f"{where}: logits=true, but p0 to p4 are probabilities already (they sum to 1); omit logits=")
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _check_twice(rows: pd.DataFrame, where: str) -> None:
    """Stop when a knee is listed twice: by its path, or as a whole row where there are no paths."""
    if (rows["path"] != "").all():
        again, name = rows["path"].duplicated(), "path"
    else:
        again, name = rows[["patient", "side", "grade", *PROBABILITIES]].duplicated(), "patient"
    if again.any():
        row = int(np.argmax(again))
        raise InputError(
            f"{where}: line {row + 2}: {rows[name][row] or 'a knee'} is listed twice ({int(again.sum())} such lines); "
            "each knee must appear once"
        )


def _check_swapped(rows: pd.DataFrame, where: str) -> None:
    """Stop if the reference looks like the prediction and the prediction does not; warn of anything else odd."""
    labelled = rows[rows["grade"].notna()]
    likely = labelled[PROBABILITIES].to_numpy().argmax(axis=1)
    as_grade = float((labelled["grade"].to_numpy(dtype=np.int64) == likely).mean())
    if "predicted" not in rows:
        if as_grade == 1 and len(labelled) >= _ENOUGH:
            _warn(where, "grade is the most probable grade in every line: is it the prediction, not the reference?")
        return
    predicted = pd.to_numeric(labelled["predicted"], errors="coerce").to_numpy(dtype=np.float64)
    expected = np.floor(labelled[PROBABILITIES].to_numpy() @ np.arange(N_GRADES) + 0.5)
    as_predicted = float((predicted == likely).mean())
    if as_predicted == 1 or float((predicted == expected).mean()) == 1:
        return
    if as_grade >= _SAME and len(labelled) >= _ENOUGH:
        raise InputError(
            f"{where}: grade is the most probable grade in {as_grade:.0%} of the lines, and predicted in "
            f"{as_predicted:.0%}: reference and prediction look swapped; rename the two columns"
        )
    share = f"{as_predicted:.1%}"
    _warn(where, f"predicted is the most probable grade in {share} of the lines; only p0 to p4 are evaluated")


def _warn(where: str, words: str) -> None:
    print(f"WARNING: {where}: {words}", file=sys.stderr, flush=True)
