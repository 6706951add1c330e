"""Where knees come from: each source is one function that returns manifest rows and opens no image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from koa_lightning.data import manifest as mf
from koa_lightning.data.find_images import SUFFIXES, check_name, refuse_unreadable
from koa_lightning.data.gray import one_line
from koa_lightning.data.patterns import SIDES, NamePattern
from koa_lightning.data.phantom.manifest import GRADE_SHARES, phantom_manifest
from koa_lightning.errors import InputError

# Chen 2018: 9001104R.jpg; auto_test: 9001104_1.png and _2.png, which do not tell the side.
CHEN_NAME = r"^(?P<patient>\d{7})(?:(?P<side>[LRlr])|_[12])\."
_CHEN_HINT = "Chen 2018 names them 9001104R.png; for other names take data=folder or data=table"
_TEXT = ("path", "patient", "side", "split")
_MISSING = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>"]
_SIDES = {**SIDES, "": ""}


def _folder(root: str | None, key: str) -> Path:
    if not root:
        raise InputError(f"{key} must be given; type {key}=FOLDER")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise InputError(f"{key}={root}: " + ("is not a folder" if folder.exists() else "there is no such folder"))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{key}={root}: the folder cannot be read; check its permissions")
    return folder


def _images(folder: Path) -> list[Path]:
    """Return the images of a grade's folder, also links to nothing, which the cache will tell.

    Raises:
        InputError: There are images in a folder within it, which would be left out.
    """
    names = []
    with os.scandir(folder) as entries:  # it tells files from folders without a call for each
        for entry in entries:
            if entry.name[0] == ".":
                continue
            if entry.is_dir():
                _refuse_images_within(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                names.append(entry.name)
    return [folder / name for name in sorted(names)]


def _refuse_images_within(folder: Path) -> None:
    for parent, _, files in os.walk(folder, onerror=refuse_unreadable):
        inside = [name for name in files if name.lower().endswith(SUFFIXES) and name[0] != "."]
        if inside:
            raise InputError(f"{parent}: holds {len(inside)} image(s) below a grade's folder; move them up into it")


def _found(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def _graded(folder: Path) -> pd.DataFrame:
    """Return path and grade of `{0..4}/NAME` below a folder; a folder with another name stops."""
    grades = [str(grade) for grade in mf.GRADES]
    try:
        strange = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name not in grades and p.name[0] != ".")
        if strange:
            raise InputError(f"{folder}: folder '{strange[0]}' is no grade; the folders must be named 0, 1, 2, 3, 4")
        rows = [(str(p), g) for g in mf.GRADES if (folder / str(g)).is_dir() for p in _images(folder / str(g))]
    except OSError as error:
        refuse_unreadable(error)
    for path, _ in rows:
        check_name(Path(path))
    return pd.DataFrame(rows, columns=["path", "grade"])


def _names(rows: pd.DataFrame, pattern: NamePattern, hint: str) -> pd.DataFrame:
    """Read patient and side from file names by a pattern with the groups `patient` and, if any, `side`."""
    patients, sides = [], []
    for path in rows["path"]:
        patient, side = pattern.read(path)
        if not patient:
            raise InputError(f"{path}: no patient in this name by the pattern {pattern.typed}; {hint}")
        patients.append(patient)
        sides.append(side)
    return rows.assign(patient=patients, side=sides)


def named(path: str, pattern: NamePattern | None) -> tuple[str, str]:
    """Return the patient and the side (L or R) that a file's name tells, each empty where it does not.

    Raises:
        InputError: The pattern takes too long.
    """
    return pattern.read(path) if pattern else ("", "")


def pattern_of(data: Mapping[str, Any]) -> NamePattern | None:
    """Return how a data set names its files, from its config; None where names tell nothing.

    Raises:
        InputError: `data.pattern` is no regular expression with a group `patient`.
    """
    if data.get("name") == "chen2018":
        return NamePattern(CHEN_NAME)
    return NamePattern(data["pattern"]) if data.get("pattern") else None


def _given(pattern: str | None) -> NamePattern:
    if not pattern:
        raise InputError("data.pattern must be given: a regular expression with a group (?P<patient>...)")
    return NamePattern(pattern)


def chen2018(root: str | None) -> pd.DataFrame:
    """Return the rows of Chen 2018 in the layout of Mendeley and Kaggle: `{train,val,test,auto_test}/{0..4}/NAME`.

    Only names are read. Patient and side come from them; `auto_test` keeps its own name as a part.

    Raises:
        InputError: The folder is missing, empty, or has another layout.
    """
    folder = _folder(root, "data.root")
    looked_for = "looked for {train,val,test}/{0,1,2,3,4}/NAME.png or .jpg"
    parts = [part for part in (*mf.PARTS, mf.AUTO_TEST) if (folder / part).is_dir()]
    if not parts:
        raise InputError(f"data.root={root}: {looked_for}; found {_found(folder)} (data=folder takes {{0..4}}/NAME)")
    frames = [_graded(folder / part).assign(split=part) for part in parts]
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        raise InputError(f"data.root={root}: no image in {', '.join(parts)}; {looked_for}")
    rows = pd.concat(filled, ignore_index=True)
    return mf.make(_names(rows, NamePattern(CHEN_NAME), _CHEN_HINT), f"data.root={root}")


def folder(root: str | None, pattern: str | None) -> pd.DataFrame:
    """Return the rows of `{0..4}/NAME`; patient (and side) are read from the name by a regular expression.

    Raises:
        InputError: The folder is missing, empty, has another layout, or a name does not match.
    """
    where, compiled = _folder(root, "data.root"), _given(pattern)
    if all((where / part).is_dir() for part in ("train", "val")):
        raise InputError(f"data.root={root}: looked for {{0,1,2,3,4}}/NAME; it has parts, so type data=chen2018")
    rows = _graded(where)
    if rows.empty:
        raise InputError(f"data.root={root}: no image found; looked for {{0,1,2,3,4}}/NAME; found {_found(where)}")
    return mf.make(_names(rows, compiled, "set data.pattern"), f"data.root={root}")


def table(table: str | None, root: str | None = None) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet table with `path`, `grade`, and optional `patient`, `side`, `split`.

    Paths are relative to `root`, or else to the table's folder. Further columns are kept. Without a column `patient`
    every knee counts as a patient of its own, which `KneeDataModule` says aloud.

    Raises:
        InputError: The table or a file is missing, a column is missing, or a grade or part is not one.
    """
    if not table:
        raise InputError("data.table must be given; type data.table=FILE.csv")
    file = Path(table).expanduser()
    if not file.is_file():
        raise InputError(f"data.table={table}: there is no such file")
    where = f"data.table={table}"
    rows = read_table(file).drop(columns="hash", errors="ignore")  # that of the files is worked out, never believed
    if missing := [column for column in ("path", "grade") if column not in rows]:
        have = ", ".join(map(str, rows.columns[:10]))
        raise InputError(f"{where}: column '{missing[0]}' is missing; it has {have}")
    if rows.empty:
        raise InputError(f"{where}: the table has no row")
    for column in _TEXT:
        if column in rows:
            rows[column] = rows[column].astype("str").fillna("").str.strip()
    for column in ("path", "patient"):
        _refuse(rows, column, where, rows[column] == "" if column in rows else None, "is empty")
    base = Path(root).expanduser() if root else file.parent
    rows["path"] = [os.path.normpath(base / path) for path in rows["path"]]
    given = rows["grade"].astype("str") if is_bool_dtype(rows["grade"]) else rows["grade"]  # True is no grade
    grades = pd.to_numeric(given, errors="coerce")
    _refuse(rows, "grade", where, ~grades.isin(mf.GRADES), "is not one of 0, 1, 2, 3, 4")
    rows["grade"] = grades.astype("int8")
    if "side" in rows:
        sides = rows["side"].str.upper()
        _refuse(rows, "side", where, ~sides.isin(_SIDES), "is not L or R (or empty)")
        rows["side"] = sides.map(_SIDES)
    if "split" in rows:
        _refuse(rows, "split", where, ~rows["split"].isin([*mf.PARTS, mf.AUTO_TEST]), "is not one of train, val, test")
    _check_files(rows, where)
    return mf.make(rows, where)


def _refuse(rows: pd.DataFrame, column: str, where: str, wrong: pd.Series | None, why: str) -> None:
    if wrong is not None and wrong.any():
        row = int(np.argmax(wrong))  # the table's first line holds the names
        raise InputError(f"{where}: line {row + 2}: {column} '{rows[column].iloc[row]}' {why}")


def _check_files(rows: pd.DataFrame, where: str) -> None:
    """Stop when a file is missing; those of the test part are not looked at before they are evaluated."""
    own = ~rows["split"].isin(["test", mf.AUTO_TEST]) if "split" in rows else np.ones(len(rows), dtype=bool)
    missing = [path for path in rows["path"][own] if not Path(path).is_file()]
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise InputError(f"{where}: {missing[0]}{more} missing (paths start at the table's folder, or at data.root)")


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file; identifiers stay text (leading zeros are kept).

    Raises:
        InputError: The file is neither.
    """
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(file)
        # A patient may be called NA, so what is missing is told column by column. low_memory guesses a column's type
        # piece by piece, and a column of two types cannot be written as Parquet.
        columns = pd.read_csv(file, nrows=0, skipinitialspace=True).columns
        missing = {column: [""] if column in _TEXT else _MISSING for column in columns}
        return pd.read_csv(
            file, dtype=dict.fromkeys(_TEXT, "str"), skipinitialspace=True, low_memory=False, na_values=missing,
            keep_default_na=False,
        )  # fmt: skip
    except (ValueError, OSError) as error:  # parser errors are ValueErrors
        raise InputError(f"{file}: not a readable CSV or Parquet table ({one_line(error)})") from None


def phantom(n_patients: int, seed: int, grade_shares: list[float] | None = None) -> pd.DataFrame:
    """Return the rows of synthetic knees, two a patient; they are drawn when the cache is built."""
    rows = phantom_manifest(n_patients, seed, tuple(grade_shares) if grade_shares else GRADE_SHARES)
    return mf.make(rows, "data=phantom")
