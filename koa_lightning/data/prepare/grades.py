"""A reader's grades by original patient id, matched through the keyed hash of the id."""

from __future__ import annotations

import re

from koa_lightning.config.places import user_path
from koa_lightning.data.dicom.header import SIDES
from koa_lightning.data.manifest import GRADES
from koa_lightning.data.prepare.names import Key
from koa_lightning.data.user_tables import read_table
from koa_lightning.errors import InputError

_COLUMNS = ("patient", "side", "grade")


def read_grades(file: str, key: Key) -> dict[tuple[str, str], int]:
    """Return the grades of a CSV table with the columns patient, side and grade, by hashed patient and side.

    Raises:
        InputError: The table or a column is missing, a side or grade is invalid, or a knee has two grades.
    """
    where = f"grades={file}"
    if not user_path(file).is_file():
        raise InputError(f"{where}: there is no such file")
    table = read_table(user_path(file), as_text=True)
    if missing := [column for column in _COLUMNS if column not in table]:
        raise InputError(f"{where}: column '{missing[0]}' is missing; it needs {', '.join(_COLUMNS)}")
    known = {str(grade): grade for grade in GRADES}
    grades: dict[tuple[str, str], int] = {}
    for line, (patient, side, grade) in enumerate(table[list(_COLUMNS)].itertuples(index=False), 2):
        letter, number = SIDES.get(side.strip().upper()), known.get(re.sub(r"[.,]0+$", "", grade.strip()))
        if not patient.strip():
            raise InputError(f"{where}: line {line}: patient is empty")
        if letter is None:
            raise InputError(f"{where}: line {line}: side '{side}' is not L or R")
        if number is None:
            raise InputError(f"{where}: line {line}: grade '{grade}' is not one of {', '.join(known)}")
        if grades.setdefault((key.patient(patient), letter), number) != number:
            raise InputError(f"{where}: line {line}: this knee has a different grade in an earlier line; keep one")
    return grades
