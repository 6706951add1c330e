"""All knees of a source with the input of the checks: splits, hashes, pixels. Faulty files do not stop it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data import manifest as mf
from koa_lightning.data.cache import Preprocessing, open_cache
from koa_lightning.data.patients import implausible
from koa_lightning.data.reading import Read, reader_of, row_reader
from koa_lightning.data.split_settings import Ways, base_folder, make
from koa_lightning.errors import InputError

SIZE = 224  # side in pixels of the compared pictures


@dataclass(frozen=True)
class Knees:
    """The audited knees; row i of each array belongs to the same file.

    Attributes:
        rows: The manifest of all splits, with hashes (empty where a file is missing or locked).
        images: uint8 N x 224 x 224, letterboxed; black where unreadable.
        pixels: N hashes of the pixels, see `koa_lightning.data.cache.Cache`.
        shapes: N x 2, rows and columns; 0 where unreadable.
        unreadable: Reasons by row.
        file: The file of the images (`.npy`).
        films: The rows of pictures that show both knees.
    """

    rows: pd.DataFrame
    images: np.ndarray
    pixels: np.ndarray
    shapes: np.ndarray
    unreadable: dict[int, str]
    file: Path
    films: list[int] = field(default_factory=list)

    @property
    def readable(self) -> np.ndarray:
        """Return which rows could be read, bool N."""
        return ~np.isin(np.arange(len(self.rows)), list(self.unreadable))


def gather(source: Callable[[], pd.DataFrame], cfg: Any, quiet: bool = False) -> Knees:
    """Read every knee of a source, including test splits, in the splits that `train` would use.

    Args:
        source: Returns the manifest.
        cfg: The data config (`split`, fractions, folds, `cache_dir`, `name`).
        quiet: No progress bar.

    Raises:
        InputError: The source itself cannot be read.
    """
    manifest = source()
    if why := implausible(manifest, "the source"):
        print(f"WARNING: data={cfg.name}: {why}: splits by these patients mean nothing", file=sys.stderr, flush=True)
    read = reader_of(source)
    rows = _with_hashes(_with_splits(manifest, cfg), read)
    cache = open_cache(
        rows["path"].tolist(),
        rows["hash"].tolist(),
        [""] * len(rows),
        Preprocessing(SIZE),
        user_path(cfg.cache_dir) if cfg.cache_dir else None,
        quiet,
        row_reader(rows, read),
    )
    return Knees(rows, cache.images, cache.pixels, cache.shapes, cache.unreadable, cache.path, cache.films)


def _with_splits(manifest: pd.DataFrame, cfg: Any) -> pd.DataFrame:
    try:
        base = base_folder(cfg.get("root"), cfg.get("table"))
        shares = {"val_fraction": cfg.val_fraction, "test_fraction": cfg.test_fraction}
        folds = {"n_folds": cfg.folds, "fold": cfg.fold, "seed": cfg.split_seed}
        ways = Ways(cfg.split, cfg.split_table, base, shares, folds)
        return make(manifest, ways, set(mf.SPLITS), f"data={cfg.name}").manifest
    except InputError as error:
        print(f"WARNING: {error}; the audit continues with the splits as they are", file=sys.stderr, flush=True)
        return manifest


def _with_hashes(rows: pd.DataFrame, read: Read | None) -> pd.DataFrame:
    if read is not None:
        return mf.add_hashes(rows, rows["split"].unique(), read)
    absent = np.array([not (path.startswith(mf.PHANTOM) or Path(path).exists()) for path in rows["path"]])
    kept = rows.assign(hash=rows["hash"].mask(absent, "missing"))  # `add_hashes` stops at a missing file
    hashed = mf.add_hashes(kept, rows["split"].unique())
    return hashed.assign(hash=hashed["hash"].mask(absent, ""))
