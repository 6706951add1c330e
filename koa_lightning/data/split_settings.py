"""The splits of a manifest, made by the source, by stratification, or by an external table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data import split_table
from koa_lightning.data import splits as splitting


@dataclass(frozen=True)
class Ways:
    """How splits are made.

    Attributes:
        split: `official`, `stratified`, or `table`.
        table: The file of `table`, see `koa_lightning.data.split_table`.
        base: The folder of the data, to which paths are relative; None if there is none.
        shares: `val_fraction` and `test_fraction` of `stratified`.
        folds: `n_folds` (None: none), `fold` (the validation split), `seed`, and `fold_val` (true if omitted).
    """

    split: str
    table: str | None = None
    base: Path | None = None
    shares: Mapping[str, Any] = field(default_factory=dict)
    folds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Splits:
    """The result: the manifest with its splits, a description of how they were made, and their table, if any."""

    manifest: pd.DataFrame
    name: str
    table: split_table.SplitTable | None = None


def make(manifest: pd.DataFrame, ways: Ways, splits: set[str], where: str) -> Splits:
    """Set the split of every knee.

    Args:
        manifest: Of all knees.
        ways: How to make the splits.
        splits: Those to be read.
        where: The source's name for messages.

    Raises:
        InputError: They cannot be made this way.
    """
    n_folds, seed, fold_val = ways.folds["n_folds"], ways.folds["seed"], ways.folds.get("fold_val", True)
    if ways.split == "table":
        table = split_table.read(ways.table)
        made = split_table.assign(manifest, table, ways.base, splits=splits, **ways.folds)
        return Splits(made, table.name(n_folds, seed), table)
    name = splitting.name(manifest, ways.split, ways.shares, n_folds, seed, fold_val)
    made = splitting.assign(manifest, split=ways.split, **ways.shares, **ways.folds, where=where, base=ways.base)
    return Splits(made, name)


def base_folder(root: str | None, table: str | None) -> Path | None:
    """Return the folder to which a data source's paths are relative; None for phantoms.

    Args:
        root: `data.root`.
        table: `data.table`.
    """
    if root:
        return user_path(root)
    return user_path(table).parent if table else None
