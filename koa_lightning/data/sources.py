"""Where knees come from: each source is one function that returns manifest rows and opens no image."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from koa_lightning.data import manifest as mf
from koa_lightning.data.images import SUFFIXES
from koa_lightning.data.phantom import GRADE_SHARES, phantom_manifest
from koa_lightning.errors import InputError

AUTO_TEST = "auto_test"
# Chen 2018: 9001104R.jpg; auto_test: 9001104_1.png and _2.png, which do not tell the side.
CHEN_NAME = r"(?P<patient>\d{7})(?P<side>[LR]|_[12])"


def _folder(root: str | None, key: str) -> Path:
    if not root:
        raise InputError(f"{key} must be given; type {key}=FOLDER")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise InputError(f"{key}={root}: " + ("is not a folder" if folder.exists() else "there is no such folder"))
    return folder


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _graded(folder: Path) -> pd.DataFrame:
    """Return path and grade of `{0..4}/NAME` below a folder; a folder with another name stops."""
    strange = [p.name for p in folder.iterdir() if p.is_dir() and p.name not in "01234" and p.name[0] != "."]
    if strange:
        raise InputError(f"{folder}: folder '{strange[0]}' is no grade; the folders must be named 0, 1, 2, 3, 4")
    rows = [(str(p), g) for g in mf.GRADES if (folder / str(g)).is_dir() for p in _images(folder / str(g))]
    return pd.DataFrame(rows, columns=["path", "grade"])


def _names(rows: pd.DataFrame, pattern: str, key: str) -> pd.DataFrame:
    """Read patient and side from file names by a pattern with the groups `patient` and, if any, `side`."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"{key}={pattern}: not a regular expression ({error})") from None
    if "patient" not in compiled.groupindex:
        raise InputError(f"{key}={pattern}: needs a group (?P<patient>...)")
    found = [compiled.search(Path(path).name) for path in rows["path"]]
    for path, match in zip(rows["path"], found, strict=True):
        if match is None:
            raise InputError(f"{path}: no patient in this name by the pattern {pattern}; set {key}=PATTERN")
    matches = [match.groupdict() for match in found if match is not None]
    sides = [match.get("side") or "" for match in matches]
    return rows.assign(
        patient=[match["patient"] for match in matches],
        side=[side.upper() if side.upper() in ("L", "R") else "" for side in sides],
    )


def chen2018(root: str | None) -> pd.DataFrame:
    """Return the rows of Chen 2018 in the layout of Mendeley and Kaggle: `{train,val,test,auto_test}/{0..4}/NAME`.

    Only names are read. Patient and side come from them; `auto_test` keeps its own name as a part.

    Raises:
        InputError: The folder is missing, empty, or has another layout.
    """
    folder = _folder(root, "data.root")
    looked_for = "looked for {train,val,test}/{0,1,2,3,4}/NAME.png or .jpg"
    parts = [part for part in (*mf.PARTS, AUTO_TEST) if (folder / part).is_dir()]
    if not parts:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise InputError(f"data.root={root}: {looked_for}; found {there} (data=folder takes {{0..4}}/NAME)")
    frames = [_graded(folder / part).assign(split=part) for part in parts]
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    if rows.empty:
        raise InputError(f"data.root={root}: no image in it; {looked_for}")
    return mf.make(_names(rows, CHEN_NAME, "data.source.pattern"), f"data.root={root}")


def folder(root: str | None, pattern: str) -> pd.DataFrame:
    """Return the rows of `{0..4}/NAME`; patient (and side) are read from the name by a regular expression.

    Raises:
        InputError: The folder is missing, empty, has another layout, or a name does not match.
    """
    where = _folder(root, "data.root")
    rows = _graded(where)
    if rows.empty:
        there = ", ".join(sorted(p.name for p in where.iterdir())[:5]) or "nothing"
        raise InputError(f"data.root={root}: no image found; looked for {{0,1,2,3,4}}/NAME; found {there}")
    return mf.make(_names(rows, pattern, "data.pattern"), f"data.root={root}")


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
    rows = read_table(file)
    if missing := [column for column in ("path", "grade") if column not in rows]:
        have = ", ".join(map(str, rows.columns[:10]))
        raise InputError(f"data.table={table}: column '{missing[0]}' is missing; it has {have}")
    if rows.empty:
        raise InputError(f"data.table={table}: the table has no row")
    base = Path(root).expanduser() if root else file.parent
    rows["path"] = [str(base / str(path)) for path in rows["path"]]
    rows["grade"] = _grades(rows, table)
    if "patient" in rows:
        empty = rows["patient"].isna() | (rows["patient"].astype("str").str.strip() == "")
        if empty.any():
            raise InputError(f"data.table={table}: row {int(np.argmax(empty)) + 2} has no patient")
        rows["patient"] = rows["patient"].astype("str")
    if "split" in rows:
        strange = rows["split"][~rows["split"].isin([*mf.PARTS, AUTO_TEST])]
        if len(strange):
            raise InputError(f"data.table={table}: split '{strange.iloc[0]}' is not one of train, val, test")
    for path, part in zip(rows["path"], rows.get("split", pd.Series("", index=rows.index)), strict=True):
        if part not in ("test", AUTO_TEST) and not Path(path).is_file():
            raise InputError(f"data.table={table}: {path} is missing (paths are relative to the table, or data.root)")
    return mf.make(rows, f"data.table={table}")


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file; identifiers stay text (leading zeros are kept).

    Raises:
        InputError: The file is neither.
    """
    text = {"patient": "str", "side": "str", "split": "str", "path": "str"}
    try:
        if file.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(file)
        return pd.read_csv(file, dtype=text)
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise InputError(f"{file}: not a readable CSV or Parquet table ({str(error).splitlines()[0]})") from None


def _grades(rows: pd.DataFrame, table: str) -> pd.Series:
    numbers = pd.to_numeric(rows["grade"], errors="coerce")
    wrong = ~numbers.isin(list(mf.GRADES))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"data.table={table}: row {row + 2}: grade {rows['grade'].iloc[row]} is not one of 0, 1, 2, 3, 4"
        )
    return numbers.astype("int8")


def phantom(n_patients: int, seed: int, grade_shares: list[float] | None = None) -> pd.DataFrame:
    """Return the rows of synthetic knees, two a patient; they are drawn when the cache is built."""
    rows = phantom_manifest(n_patients, seed, tuple(grade_shares) if grade_shares else GRADE_SHARES)
    return mf.make(rows, "data=phantom")
