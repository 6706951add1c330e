"""Write a split for others to repeat: `python -m koa_lightning.split data=chen2018 data.root=FOLDER`."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import validate
from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table
from koa_lightning.data.build import data_module
from koa_lightning.data.manifest import n_patients
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    from koa_lightning.data.datamodule import KneeDataModule

SPLITS = ("train", "val")  # their files are opened to be hashed


def split(cfg: DictConfig) -> dict[str, Any]:
    """Write `split.csv`: the split (and fold) of each knee, with a checksum; files of the test split are not opened.

    Args:
        cfg: The config `split`, composed.

    Returns:
        `checksum`, `file`, `n_knees`.

    Raises:
        InputError: The user's settings or data have a fault.
    """
    validate(cfg)
    if cfg.data.fraction != 1:
        raise InputError(
            f"data.fraction={cfg.data.fraction:g}: a written split has all knees; omit this here, and type it "
            "when you train with data.split=table"
        )

    data = data_module(cfg.data)
    rows = mf.add_hashes(_rows(data), SPLITS, data.read)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "split.csv"
    checksum = split_table.write(rows, data.base, file)
    for split in rows["split"].unique():
        print(f"{split}: {mf.counts(rows, split)} knees of grade 0 to 4, {_patients(rows, split)} patients")
    if cfg.data.folds:
        print(f"folds: {rows.groupby('fold').size().tolist()} knees")
    print(DISCLAIMER)
    print(f"sha256 {checksum}\nuse it with data.split=table {shlex.quote(f'data.split_table={file}')}")
    print(f"written to {folder}", flush=True)
    return {"checksum": checksum, "file": str(file), "n_knees": len(rows)}


def _rows(data: KneeDataModule) -> pd.DataFrame:
    """Return the manifest with its splits, and with `fold` if there are folds; stop if `train` would refuse it."""
    n_folds, data.folds = data.folds, None
    rows = data.manifest()
    mf.check_splits(rows, SPLITS, f"data={data.name}")
    if n_folds is None:
        return rows
    rows["fold"] = pd.array([pd.NA] * len(rows), dtype="Int64")
    data.folds = n_folds
    for data.fold in range(n_folds):
        with contextlib.redirect_stderr(io.StringIO()):  # already reported
            splits = data.manifest()
        mf.check_splits(splits, SPLITS, f"data={data.name}")
        rows.loc[splits["split"] == "val", "fold"] = data.fold
    return rows


def _patients(rows: pd.DataFrame, split: str) -> int:
    return n_patients(rows[rows["split"] == split])
