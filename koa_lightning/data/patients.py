"""Patients that are none: words of the grade, or the beginning of a UID, which a pattern took for a patient."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

_MOST = 40  # knees of a patient: two a visit, over twenty visits
_MEAN = 20  # knees a patient in the mean, above which patients are too few
_FEW, _FEW_MEAN = 10, 8  # of fewer patients than that
_SERIES = 4  # knees of one patient, above which it is strange that all have the grade that its name ends with
_UID = re.compile(r"^[0-2](?:\.\d+){4,}(?!\w)")
_UID_ROOT = re.compile(r"^[0-2](?:\.\d+){0,3}$")


def implausible(rows: pd.DataFrame, by: str) -> str:
    """Return in one line why the patients of a manifest can be none, or an empty string.

    They coincide with grades (each has one grade and all its knees), a name is a DICOM UID of which only the beginning
    was taken, or they are far too few.

    Args:
        rows: path, patient, side and grade (-1 or empty where unknown) of every knee.
        by: Where patients come from, e.g. `data.pattern`.
    """
    known = rows[rows["patient"] != ""].reset_index(drop=True)
    if known.empty:
        return ""
    row, why = _uid(known), "it is the beginning of a DICOM UID, which all files may share"
    if row is None:
        row, why = _of_grade(known), "patients that go by the grade are none"
    if row is None:
        row, why = _crowded(known), "so many knees are of no one patient"
    if row is None:
        return ""
    said = f"{len(known)} knees, {known['patient'].nunique()} patients by {by}, e.g. '{known['patient'].iloc[row]}'"
    return f"{said} from '{Path(str(known['path'].iloc[row])).name}'; {why}"


def _uid(known: pd.DataFrame) -> int | None:
    """Return the first row whose name is a UID and whose patient is its beginning alone."""
    names = known["path"].map(lambda path: Path(path).name)
    uid = np.flatnonzero(names.str.contains(_UID) & known["patient"].str.fullmatch(_UID_ROOT))
    return int(uid[0]) if len(uid) else None


def _of_grade(known: pd.DataFrame) -> int | None:
    """Return a row of a patient that stands for a grade: by the name's last number, or as there is one a grade."""
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
    """Return a row of the patient with most knees, where those are too many, or too many in the mean."""
    size = known.groupby("patient").size()
    too_few = size.mean() > _MEAN or (1 < len(size) < _FEW and size.mean() > _FEW_MEAN)
    return _first_of(known, size == size.max()) if too_few or size.max() > _MOST else None


def _first_of(known: pd.DataFrame, suspicious: pd.Series) -> int | None:
    rows = np.flatnonzero(known["patient"].isin(suspicious.index[suspicious]))
    return int(rows[0]) if len(rows) else None
