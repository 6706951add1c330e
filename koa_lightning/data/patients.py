"""Implausible patients: words for the grade, or the start of a UID, that a pattern took for a patient."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

_MOST = 40  # knees of a patient: two per visit, over twenty visits
_MEAN = 20  # mean knees per patient, above which patients are too few
_FEW, _FEW_MEAN = 10, 8  # the same limit with fewer than 10 patients
_SERIES = 4  # more knees of a patient are unlikely to all have the last digit of its name as grade
_UID = re.compile(r"^[0-2](?:\.\d+){4,}(?!\w)")
_UID_ROOT = re.compile(r"^[0-2](?:\.\d+){0,3}$")


def implausible(rows: pd.DataFrame, by: str) -> str:
    """Return one line that says why a manifest's patients are implausible, or an empty string.

    They coincide with grades (each has one grade and all its knees), a name is a DICOM UID of which only the start was
    taken, or they are far too few.

    Args:
        rows: path, patient, side and grade (-1 or empty where unknown) of every knee.
        by: The origin of the patients, e.g. `data.pattern`.
    """
    known = rows[rows["patient"] != ""].reset_index(drop=True)
    if known.empty:
        return ""
    row, why = _uid(known), "it is the beginning of a DICOM UID, which all files may share"
    if row is None:
        row, why = _of_grade(known), "these are grades, not patients"
    if row is None:
        row, why = _crowded(known), "no patient has so many knees"
    if row is None:
        return ""
    said = f"{len(known)} knees, {known['patient'].nunique()} patients by {by}, e.g. '{known['patient'].iloc[row]}'"
    return f"{said} from '{Path(str(known['path'].iloc[row])).name}'; {why}"


def _uid(known: pd.DataFrame) -> int | None:
    """Return the first row whose name is a UID and whose patient is only its beginning."""
    names = known["path"].map(lambda path: Path(path).name)
    uid = np.flatnonzero(names.str.contains(_UID) & known["patient"].str.fullmatch(_UID_ROOT))
    return int(uid[0]) if len(uid) else None


def _of_grade(known: pd.DataFrame) -> int | None:
    """Return a row of a patient that stands for a grade: by its name's last digit, or with one patient per grade."""
    grade = known["grade"].astype("Float64").fillna(-1).astype("float64").groupby(known["patient"])
    lowest, size = grade.min(), grade.size()
    one_grade = (lowest == grade.max()) & (lowest >= 0)
    last_digit = lowest.index.to_series().str.extract(r"(?<!\d)(\d)$")[0].astype("float64")
    named = one_grade & (last_digit == lowest)
    suspicious = named & (size > _SERIES)
    if one_grade.all() and len(lowest) > 1 and lowest.is_unique:
        same_side = known.groupby("patient")["side"].agg(lambda sides: bool((sides.duplicated() | (sides == "")).any()))
        if size.mean() > _SERIES or (named.all() and (same_side & (size > 1)).any()):
            suspicious = one_grade
    return _first_of(known, suspicious)


def _crowded(known: pd.DataFrame) -> int | None:
    """Return a row of the patient with most knees, if these, or the mean number of knees, are too many."""
    size = known.groupby("patient").size()
    too_few = size.mean() > _MEAN or (1 < len(size) < _FEW and size.mean() > _FEW_MEAN)
    return _first_of(known, size == size.max()) if too_few or size.max() > _MOST else None


def _first_of(known: pd.DataFrame, suspicious: pd.Series) -> int | None:
    rows = np.flatnonzero(known["patient"].isin(suspicious.index[suspicious]))
    return int(rows[0]) if len(rows) else None
