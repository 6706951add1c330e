"""A reader's grades by original patient ids, joined by the keyed hash of those."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from koa_lightning.data.dicom.header import SIDES
from koa_lightning.data.gray import one_line
from koa_lightning.data.manifest import GRADES
from koa_lightning.data.prepare.names import Key
from koa_lightning.errors import InputError

_COLUMNS = ("patient", "side", "grade")


def read_grades(file: str, key: Key) -> dict[tuple[str, str], int]:
    """Return the grades of a CSV table with the columns patient, side and grade, by hashed patient and side.

    Raises:
        InputError: The table or a column is missing, a side or grade is none, or a knee has two grades.
    """
    where = f"grades={file}"
    try:
        table = pd.read_csv(Path(file).expanduser(), dtype="str", skipinitialspace=True, keep_default_na=False)
    except FileNotFoundError:
        raise InputError(f"{where}: there is no such file") from None
    except (ValueError, OSError) as error:  # parser errors are ValueErrors
        raise InputError(f"{where}: not a readable CSV table ({one_line(error)})") from None
    if missing := [column for column in _COLUMNS if column not in table]:
        raise InputError(f"{where}: column '{missing[0]}' is missing; it needs {', '.join(_COLUMNS)}")
    known = {str(grade): grade for grade in GRADES}
    grades: dict[tuple[str, str], int] = {}
    for line, (patient, side, grade) in enumerate(table[list(_COLUMNS)].itertuples(index=False), 2):
        letter, number = SIDES.get(side.strip().upper()), known.get(grade.strip().removesuffix(".0"))
        if not patient.strip():
            raise InputError(f"{where}: line {line}: patient is empty")
        if letter is None:
            raise InputError(f"{where}: line {line}: side '{side}' is not L or R")
        if number is None:
            raise InputError(f"{where}: line {line}: grade '{grade}' is not one of {', '.join(known)}")
        if grades.setdefault((key.patient(patient), letter), number) != number:
            raise InputError(f"{where}: line {line}: this knee has another grade above; keep one")
    return grades
