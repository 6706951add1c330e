"""Labels that out-of-fold probabilities contradict (confident learning); listed for a reader, never removed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data.audit.findings import NOTE, Finding
from koa_lightning.data.manifest import GRADES
from koa_lightning.data.user_tables import comparable, read_table
from koa_lightning.errors import InputError

PROBABILITIES = [f"p{grade}" for grade in GRADES]


def read_oof(file: str | Path) -> pd.DataFrame:
    """Read out-of-fold probabilities: a predictions table with the columns path and p0 to p4.

    Raises:
        InputError: It is missing, not a table, lacks a column, or its rows are no probabilities.
    """
    path = user_path(file)
    if not path.is_file():
        raise InputError(f"oof={file}: there is no such file; give the predictions of a cross-validation")
    table = read_table(path)
    if missing := [column for column in ("path", *PROBABILITIES) if column not in table]:
        raise InputError(f"oof={file}: column '{missing[0]}' is missing; give a predictions table (path, p0 to p4)")
    try:
        values = table[PROBABILITIES].to_numpy(dtype=float)
    except ValueError:
        raise InputError(f"oof={file}: p0 to p4 must be numbers") from None
    wrong = ~(np.isfinite(values).all(axis=1) & (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) < 0.01))
    if wrong.any():
        raise InputError(f"oof={file}: line {int(np.argmax(wrong)) + 2}: p0 to p4 are no probabilities (sum of 1)")
    table["path"] = table["path"].astype("str")
    return table.drop_duplicates("path", keep="last").reset_index(drop=True)


def suspicious(rows: pd.DataFrame, oof: pd.DataFrame, where: str = "oof") -> list[Finding]:
    """Return the knees whose label out-of-fold probabilities contradict, the most contradicted first.

    Confident learning (Northcutt, Jiang and Chuang 2021) by cleanlab: a knee counts for another grade when its
    probability of that grade reaches the mean probability of the knees labelled so.

    Args:
        rows: The manifest.
        oof: path and p0 to p4; paths that are not in the manifest are looked up by their last three parts.
        where: For messages.

    Raises:
        InputError: No path of the table is in the manifest, their last parts do not tell which is which, or cleanlab is
            not installed.
    """
    row, probabilities = _joined(rows, oof, where)
    if not len(row):
        raise InputError(f"{where}: none of its paths is in the data; were its predictions made of other data?")
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise InputError("oof: needs cleanlab; pip install 'koa-lightning[audit]', or omit oof") from None
    label = rows["grade"].to_numpy(dtype=np.int64)[row]
    # cleanlab wants classes that are there, numbered without gaps
    present = np.unique(label)
    if len(present) < 2:
        return []
    shares = probabilities[:, present]
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    issues = find_label_issues(
        np.searchsorted(present, label),
        shares,
        filter_by="confident_learning",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    return [_finding(rows.iloc[row[at]], int(row[at]), probabilities[at]) for at in issues]


def _finding(knee: pd.Series, row: int, probabilities: np.ndarray) -> Finding:
    label, likely = int(knee["grade"]), int(probabilities.argmax())
    words = (
        f"labelled {label} with probability {probabilities[label]:.2f}; grade {likely} has {probabilities[likely]:.2f}"
    )
    numbers = {
        "grade": label,
        "likely": likely,
        **{name: round(float(p), 4) for name, p in zip(PROBABILITIES, probabilities, strict=True)},
    }
    return Finding("suspicious_grade", NOTE, [str(knee["path"])], words, numbers, [row])


def _joined(rows: pd.DataFrame, oof: pd.DataFrame, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the manifest with a grade and probabilities, and the probabilities float n x 5."""
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
    """Stop where files of one side end as one of the other does: one knee would get the probabilities of another."""
    mine, theirs = (Counter(_tail(path) for path in set(some)) for some in (paths, others))
    alike = sorted(tail for tail in mine.keys() & theirs.keys() if max(mine[tail], theirs[tail]) > 1)
    if alike:
        end = "/".join(alike[0])
        raise InputError(
            f"{where}: its paths are not those of the data, and their ends are ambiguous: several files end "
            f"in {end}; give the paths as the data has them"
        )


def _tail(path: str) -> tuple[str, ...]:
    return Path(path).parts[-3:]
