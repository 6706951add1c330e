"""The parts of a manifest, whichever way they are made: by the source, anew, or by a table of somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data import split_table, splits


@dataclass(frozen=True)
class Ways:
    """How parts are made.

    Attributes:
        split: `official`, `stratified`, or `table`.
        table: The file of `table`, see `koa_lightning.data.split_table`.
        base: The folder of the data, which paths are relative to; None where there is none.
        shares: `val_fraction` and `test_fraction` of `stratified`.
        folds: `n_folds` (None: none), `fold` (the validation part) and `seed`.
    """

    split: str
    table: str | None = None
    base: Path | None = None
    shares: Mapping[str, Any] = field(default_factory=dict)
    folds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What came of it: the manifest with its parts, in words how they were made, and the table if one made them."""

    manifest: pd.DataFrame
    name: str
    table: split_table.SplitTable | None = None


def make(manifest: pd.DataFrame, ways: Ways, parts: set[str], where: str) -> Parts:
    """Set the part of every knee.

    Args:
        manifest: Of all knees.
        ways: How.
        parts: Those that will be read.
        where: The source's name for messages.

    Raises:
        InputError: They cannot be made like that.
    """
    n_folds, seed = ways.folds["n_folds"], ways.folds["seed"]
    if ways.split == "table":
        table = split_table.read(ways.table)
        made = split_table.assign(manifest, table, ways.base, parts=parts, **ways.folds)
        return Parts(made, table.name(n_folds, seed), table)
    name = splits.name(manifest, ways.split, ways.shares, n_folds, seed)
    made = splits.assign(manifest, split=ways.split, **ways.shares, **ways.folds, where=where, base=ways.base)
    return Parts(made, name)


def base_folder(root: str | None, table: str | None) -> Path | None:
    """Return the folder from which a data source tells its paths; None for phantoms.

    Args:
        root: `data.root`.
        table: `data.table`.
    """
    if root:
        return user_path(root)
    return user_path(table).parent if table else None
