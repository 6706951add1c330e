"""Any folder `{0..4}/NAME`; patient and side are read from the name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from koa_lightning.data import manifest as mf
from koa_lightning.data.find_images import say_skipped
from koa_lightning.data.grade_folders import data_folder, graded, names_found, split_folders, with_names
from koa_lightning.data.patients import implausible
from koa_lightning.data.patterns import NamePattern
from koa_lightning.errors import InputError


def folder(root: str | None, pattern: str | None) -> pd.DataFrame:
    """Return the rows of `{0..4}/NAME`; patient (and side) are read from the name by a regular expression.

    Raises:
        InputError: The folder is missing, empty, or has another layout, a name does not match, or the matches are
            implausible as patients.
    """
    where, compiled = data_folder(root, "data.root"), _given(pattern)
    skipped: set[Path] = set()
    splits = split_folders(where, f"data.root={root}", skipped)
    if len(splits) > 1:
        found = ", ".join(path.name for path in splits.values())
        raise InputError(
            f"data.root={root}: looked for {{0,1,2,3,4}}/NAME; it has splits, so type data=chen2018 (found {found})"
        )
    rows = graded(where, skipped)
    say_skipped(f"data.root={root}", skipped)
    if rows.empty:
        raise InputError(f"data.root={root}: no image found; looked for {{0,1,2,3,4}}/NAME; found {names_found(where)}")
    named = with_names(rows, compiled, "set data.pattern")
    if why := implausible(named, "data.pattern"):
        raise InputError(
            f"data.root={root}: {why}; set data.pattern to match the patient in these names, or list the knees "
            "without patients (data=table)"
        )
    return mf.make(named, f"data.root={root}")


def _given(pattern: str | None) -> NamePattern:
    if not pattern:
        raise InputError("data.pattern must be given: a regular expression with a group (?P<patient>...)")
    return NamePattern(pattern)
