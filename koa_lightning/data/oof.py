"""Out-of-fold probabilities: predictions for knees outside the networks' training data, matched to each knee."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data.manifest import GRADES
from koa_lightning.data.user_tables import comparable, read_table
from koa_lightning.errors import InputError

PROBABILITIES = [f"p{grade}" for grade in GRADES]


def read_oof(file: str | Path, key: str = "oof") -> pd.DataFrame:
    """Read out-of-fold probabilities: a predictions table with the columns path and p0 to p4.

    Args:
        file: CSV or Parquet.
        key: The setting of the file, for messages.

    Raises:
        InputError: It is missing, is not a table, lacks a column, or its rows are not probabilities.
    """
    path = user_path(file)
    if not path.is_file():
        raise InputError(f"{key}={file}: there is no such file; give the predictions of a cross-validation")
    table = read_table(path)
    if missing := [column for column in ("path", *PROBABILITIES) if column not in table]:
        raise InputError(f"{key}={file}: column '{missing[0]}' is missing; give a predictions table (path, p0 to p4)")
    try:
        values = table[PROBABILITIES].to_numpy(dtype=float)
    except ValueError:
        raise InputError(f"{key}={file}: p0 to p4 must be numbers") from None
    wrong = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 0.01))
    if wrong.any():
        raise InputError(f"{key}={file}: line {int(np.argmax(wrong)) + 2}: p0 to p4 are not probabilities (sum 1)")
    table["path"] = table["path"].astype("str")
    return table.drop_duplicates("path", keep="last").reset_index(drop=True)


def joined(rows: pd.DataFrame, oof: pd.DataFrame, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of labelled manifest rows with probabilities, and these probabilities, float n x 5.

    Args:
        rows: The manifest.
        oof: From `read_oof`; if no path is in the manifest, paths are compared by their last three parts.
        where: For messages.

    Raises:
        InputError: The last parts of the paths are ambiguous.
    """
    paths, others = ([comparable(path) for path in some["path"]] for some in (rows, oof))
    at = {path: i for i, path in enumerate(others)}
    found = np.array([at.get(path, -1) for path in paths])
    if (found < 0).all():  # the folder was moved, or is another copy
        _refuse_alike(paths, others, where)
        ends = {_tail(path): i for i, path in enumerate(others)}
        found = np.array([ends.get(_tail(path), -1) for path in paths])
    known = np.flatnonzero((found >= 0) & (rows["grade"] >= 0).to_numpy())
    return known, oof[PROBABILITIES].to_numpy(dtype=float)[found[known]]


def _refuse_alike(paths: list[str], others: list[str], where: str) -> None:
    """Stop if paths of both tables have an ambiguous end: a knee could get the probabilities of another."""
    mine, theirs = (Counter(_tail(path) for path in set(some)) for some in (paths, others))
    alike = sorted(tail for tail in mine.keys() & theirs.keys() if max(mine[tail], theirs[tail]) > 1)
    if alike:
        end = "/".join(alike[0])
        raise InputError(
            f"{where}: its paths differ from those of the data, and their ends are ambiguous: several files end "
            f"in {end}; use the paths of the data"
        )


def _tail(path: str) -> tuple[str, ...]:
    return Path(path).parts[-3:]
