"""Where knees come from: each source is one function that returns manifest rows and opens no image."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype

from koa_lightning.config.places import user_path
from koa_lightning.data import manifest as mf
from koa_lightning.data.find_images import SUFFIXES, check_name, is_system, refuse_unreadable, say_skipped
from koa_lightning.data.patients import implausible
from koa_lightning.data.patterns import SIDES, NamePattern
from koa_lightning.data.phantom.manifest import GRADE_SHARES, phantom_manifest
from koa_lightning.data.user_tables import TEXT, on_disk, read_table
from koa_lightning.errors import InputError

# Chen 2018: 9001104R.jpg; auto_test: 9001104_1.png and _2.png, which do not tell the side.
CHEN_NAME = r"^(?P<patient>\d{7})(?:(?P<side>[LRlr])|_[12])\."
_CHEN_HINT = "Chen 2018 names them 9001104R.png; for other names take data=folder or data=table"
_SIDES = {**SIDES, "": ""}
_GRADES = tuple(str(grade) for grade in mf.GRADES)


def _folder(root: str | None, key: str) -> Path:
    if not root:
        raise InputError(f"{key} must be given; type {key}=FOLDER")
    folder = user_path(root)
    if not folder.is_dir():
        raise InputError(f"{key}={root}: " + ("is not a folder" if folder.exists() else "there is no such folder"))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{key}={root}: the folder cannot be read; check its permissions")
    return folder


def _images(folder: Path, skipped: set[Path]) -> list[Path]:
    """Return the images of a grade's folder, also links to nothing, which the cache will tell.

    What is hidden or the system's is added to `skipped`.

    Raises:
        InputError: There are images in a folder within it, which would be left out.
    """
    names = []
    with os.scandir(folder) as entries:  # it tells files from folders without a call for each
        for entry in entries:
            if is_system(entry.name):
                if entry.is_dir() or entry.name.lower().endswith(SUFFIXES):
                    skipped.add(Path(entry.path))
            elif entry.is_dir():
                _refuse_images_within(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                names.append(entry.name)
    return [folder / name for name in sorted(names)]


def _refuse_images_within(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not is_system(name)]
        inside = [name for name in files if name.lower().endswith(SUFFIXES) and not is_system(name)]
        if inside:
            raise InputError(f"{parent}: holds {len(inside)} image(s) below a grade's folder; move them up into it")


def _found(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def _folders(folder: Path, skipped: set[Path]) -> list[Path]:
    """Return the folders within a folder, sorted; those that are hidden or the system's are added to `skipped`."""
    inside = [path for path in folder.iterdir() if path.is_dir()]
    skipped.update(path for path in inside if is_system(path.name))
    return sorted(path for path in inside if not is_system(path.name))


def _graded(folder: Path, skipped: set[Path]) -> pd.DataFrame:
    """Return path and grade of `{0..4}/NAME` below a folder; a folder with another name stops."""
    try:
        folders = _folders(folder, skipped)
        if strange := sorted({path.name for path in folders} - set(_GRADES)):
            raise InputError(f"{folder}: folder '{strange[0]}' is no grade; the folders must be named 0, 1, 2, 3, 4")
        rows = [(str(image), int(path.name)) for path in folders for image in _images(path, skipped)]
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


def _parts(folder: Path, where: str, skipped: set[Path]) -> dict[str, Path]:
    """Return the folders of the parts by part, in the parts' order.

    Raises:
        InputError: Two folders are the same part.
    """
    try:
        named = [(mf.part_of(path.name), path) for path in _folders(folder, skipped)]
    except OSError as error:
        refuse_unreadable(error)
    parts: dict[str, Path] = {}
    for part in (*mf.PARTS, mf.AUTO_TEST):
        paths = [path for own, path in named if own == part]
        if len(paths) > 1:
            both = " and ".join(f"'{path.name}'" for path in paths)
            raise InputError(f"{where}: the folders {both} would both be the {part} part; merge or rename them")
        if paths:
            parts[part] = paths[0]
    return parts


def _say_unread(folder: Path, read: list[Path], where: str) -> None:
    """Say which folders hold grades and are read for no part: up to two folders deep."""
    found: dict[str, int] = {}
    levels = [folder, *(each for each in _folders(folder, set()) if each not in read and each.name not in _GRADES)]
    try:
        levels += [deep for each in levels[1:] for deep in _folders(each, set()) if deep.name not in _GRADES]
        for each in levels:
            graded = [each / grade for grade in _GRADES if (each / grade).is_dir()]
            n = sum(len(_images(path, set())) for path in graded)
            if n:
                found["." if each == folder else each.relative_to(folder).as_posix()] = n
    except OSError as error:
        refuse_unreadable(error)
    if found:
        listed = ", ".join(f"'{name}' ({n} images)" for name, n in found.items())
        line = f"WARNING: {where}: folders with grades are not read: {listed}; parts are named train, val, test"
        print(f"{line}, auto_test", file=sys.stderr, flush=True)


def chen2018(root: str | None) -> pd.DataFrame:
    """Return the rows of Chen 2018 in the layout of Mendeley and Kaggle: `{train,val,test,auto_test}/{0..4}/NAME`.

    Only names are read. Patient and side come from them; `auto_test` keeps its own name as a part. Other usual names of
    the parts (`valid`, `Training`) are taken too, see `koa_lightning.data.manifest.part_of`; another folder with grades
    in it is named.

    Raises:
        InputError: The folder is missing, empty, or has another layout, or two folders are the same part.
    """
    folder, where = _folder(root, "data.root"), f"data.root={root}"
    looked_for = "looked for {train,val,test}/{0,1,2,3,4}/NAME.png or .jpg"
    skipped: set[Path] = set()
    parts = _parts(folder, where, skipped)
    if not parts:
        raise InputError(f"{where}: {looked_for}; found {_found(folder)} (data=folder takes {{0..4}}/NAME)")
    _say_unread(folder, [*parts.values()], where)
    frames = [_graded(path, skipped).assign(split=part) for part, path in parts.items()]
    say_skipped(where, skipped)
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        raise InputError(f"data.root={root}: no image in {', '.join(parts)}; {looked_for}")
    rows = pd.concat(filled, ignore_index=True)
    return mf.make(_names(rows, NamePattern(CHEN_NAME), _CHEN_HINT), f"data.root={root}")


def folder(root: str | None, pattern: str | None) -> pd.DataFrame:
    """Return the rows of `{0..4}/NAME`; patient (and side) are read from the name by a regular expression.

    Raises:
        InputError: The folder is missing, empty, has another layout, a name does not match, or what matches can be no
            patients.
    """
    where, compiled = _folder(root, "data.root"), _given(pattern)
    skipped: set[Path] = set()
    parts = _parts(where, f"data.root={root}", skipped)
    if len(parts) > 1:
        found = ", ".join(path.name for path in parts.values())
        raise InputError(
            f"data.root={root}: looked for {{0,1,2,3,4}}/NAME; it has parts, so type data=chen2018 (found {found})"
        )
    rows = _graded(where, skipped)
    say_skipped(f"data.root={root}", skipped)
    if rows.empty:
        raise InputError(f"data.root={root}: no image found; looked for {{0,1,2,3,4}}/NAME; found {_found(where)}")
    named = _names(rows, compiled, "set data.pattern")
    if why := implausible(named, "data.pattern"):
        raise InputError(
            f"data.root={root}: {why}; set data.pattern to what tells the patient in these names, or list the knees "
            "without patients (data=table)"
        )
    return mf.make(named, f"data.root={root}")


def table(table: str | None, root: str | None = None) -> pd.DataFrame:
    """Return the rows of a CSV or Parquet table with `path`, `grade`, and optional `patient`, `side`, `split`.

    Paths are relative to `root`, or else to the table's folder. Further columns are kept. Without a column `patient`
    every knee counts as a patient of its own, which `KneeDataModule` says aloud.

    Raises:
        InputError: The table or a file is missing, a column is missing, or a grade or part is not one.
    """
    if not table:
        raise InputError("data.table must be given; type data.table=FILE.csv")
    file = user_path(table)
    if not file.is_file():
        raise InputError(f"data.table={table}: there is no such file")
    where = f"data.table={table}"
    rows = read_table(file).drop(columns="hash", errors="ignore")  # that of the files is worked out, never believed
    if missing := [column for column in ("path", "grade") if column not in rows]:
        have = ", ".join(map(str, rows.columns[:10]))
        raise InputError(f"{where}: column '{missing[0]}' is missing; it has {have}")
    if rows.empty:
        raise InputError(f"{where}: the table has no row")
    for column in TEXT:
        if column in rows:
            rows[column] = rows[column].astype("str").fillna("").str.strip()
    for column in ("path", "patient"):
        _refuse(rows, column, where, rows[column] == "" if column in rows else None, "is empty")
    base = user_path(root) if root else file.parent
    rows["path"] = [on_disk(base, path) for path in rows["path"]]
    given = rows["grade"].astype("str") if is_bool_dtype(rows["grade"]) else rows["grade"]  # True is no grade
    grades = pd.to_numeric(given, errors="coerce")
    _refuse(rows, "grade", where, ~grades.isin(mf.GRADES), "is not one of 0, 1, 2, 3, 4")
    rows["grade"] = grades.astype("int8")
    if "side" in rows:
        sides = rows["side"].str.upper()
        _refuse(rows, "side", where, ~sides.isin(_SIDES), "is not L or R (or empty)")
        rows["side"] = sides.map(_SIDES)
    if "split" in rows:
        parts = rows["split"].map(mf.part_of).astype("str")
        _refuse(rows, "split", where, parts == "", "is not one of train, val, test")
        rows["split"] = parts
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


def phantom(n_patients: int, seed: int, grade_shares: list[float] | None = None) -> pd.DataFrame:
    """Return the rows of synthetic knees, two a patient; they are drawn when the cache is built."""
    rows = phantom_manifest(n_patients, seed, tuple(grade_shares) if grade_shares else GRADE_SHARES)
    return mf.make(rows, "data=phantom")
