"""A CSV or Parquet table of knees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from koa_lightning.config.places import user_path
from koa_lightning.data import manifest as mf
from koa_lightning.data.patterns import SIDES
from koa_lightning.data.user_tables import TEXT, on_disk, read_table
from koa_lightning.errors import InputError

_SIDES = {**SIDES, "": ""}


def table(table: str | None, root: str | None = None) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet table with `path`, `grade`, and optional `patient`, `side`, `split`.

    Paths are relative to `root`, or else to the table's folder. Further columns are kept. Without a column `patient`
    every knee counts as its own patient, and `KneeDataModule` warns about it.

    Raises:
        InputError: The table or a file is missing, a column is missing, or a grade or split is invalid.
    """
    if not table:
        raise InputError("data.table must be given; type data.table=FILE.csv")
    file = user_path(table)
    if not file.is_file():
        raise InputError(f"data.table={table}: there is no such file")
    where = f"data.table={table}"
    rows = read_table(file).drop(columns="hash", errors="ignore")  # hashes are computed from the files, never trusted
    if missing := [column for column in ("path", "grade") if column not in rows]:
        have = ", ".join(map(str, rows.columns[:10]))
        raise InputError(f"{where}: column '{missing[0]}' is missing; it has {have}")
    if rows.empty:
        raise InputError(f"{where}: the table is empty")
    for column in TEXT:
        if column in rows:
            rows[column] = rows[column].astype("str").fillna("").str.strip()
    for column in ("path", "patient"):
        _refuse(rows, column, where, rows[column] == "" if column in rows else None, "is empty")
    base = user_path(root) if root else file.parent
    rows["path"] = [on_disk(base, path) for path in rows["path"]]
    given = rows["grade"].astype("str") if is_bool_dtype(rows["grade"]) else rows["grade"]  # True is not a grade
    grades = pd.to_numeric(given, errors="coerce")
    _refuse(rows, "grade", where, ~grades.isin(mf.GRADES), "is not one of 0, 1, 2, 3, 4")
    rows["grade"] = grades.astype("int8")
    if "side" in rows:
        sides = rows["side"].str.upper()
        _refuse(rows, "side", where, ~sides.isin(_SIDES), "is not L or R (or empty)")
        rows["side"] = sides.map(_SIDES)
    if "split" in rows:
        splits = rows["split"].map(mf.split_of).astype("str")
        _refuse(rows, "split", where, splits == "", "is not one of train, val, test")
        rows["split"] = splits
    _check_files(rows, where)
    return mf.make(rows, where)


def _refuse(rows: pd.DataFrame, column: str, where: str, wrong: pd.Series | None, why: str) -> None:
    if wrong is not None and wrong.any():
        row = int(np.argmax(wrong))  # line 1 of the table has the column names
        raise InputError(f"{where}: line {row + 2}: {column} '{rows[column].iloc[row]}' {why}")


def _check_files(rows: pd.DataFrame, where: str) -> None:
    """Stop if a file is missing; files of the test split are not checked before they are evaluated."""
    own = ~rows["split"].isin(["test", mf.AUTO_TEST]) if "split" in rows else np.ones(len(rows), dtype=bool)
    missing = [path for path in rows["path"][own] if not Path(path).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise InputError(f"{where}: {missing[0]}{more} missing (paths start at the table's folder, or data.root)")
