"""Batches of knees: manifest -> splits -> cache -> uint8 tensors, fetched a whole batch at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from koa_lightning.config.places import user_path
from koa_lightning.data import both_knees, unreadable
from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table as st
from koa_lightning.data import splits as splitting
from koa_lightning.data.audit import leakage
from koa_lightning.data.audit.findings import LEAKY
from koa_lightning.data.cache import Cache, Preprocessing, open_cache
from koa_lightning.data.dataset import Batch, EpochSampler, KneeDataset
from koa_lightning.data.on_device import OnDevice
from koa_lightning.data.patients import implausible
from koa_lightning.data.reading import reader_of, row_reader
from koa_lightning.data.split_settings import Ways, make
from koa_lightning.errors import InputError

ALL = "all"  # pseudo-split of all knees, whatever their split


class KneeDataModule(OnDevice):
    """Knees of one source, in splits by patient.

    Args:
        source: Returns manifest rows; called once. With a method `read(row)` it provides the pictures too, see
            `koa_lightning.data.reading`.
        name: Of the source, for messages and tags.
        preprocessing: Size, fit and canonical side.
        batch_size: Knees per training batch.
        eval_batch_size: Knees per batch without gradients; None: twice `batch_size`.
        fraction: Share of the train split's patients to keep, stratified by grade; recorded in `caveats`.
        sampler: `none` or `balanced`.
        split: `official`, `stratified`, or `table`.
        split_table: The file of `table`, see `koa_lightning.data.split_table`.
        base: The folder of the data, to which paths are relative; None if there is none.
        val_fraction, test_fraction: Shares of the patients for `stratified`.
        split_seed: Of the splits; separate from the run's seed so that runs stay comparable.
        folds, fold: With `folds`, fold `fold` of all non-test knees is the validation split.
        fold_val: Whether the folds include the source's validation split; otherwise it is not read.
        cache_dir: Folder of the cache; None: `KOA_CACHE`, or the user's cache folder.
        on_device: See `koa_lightning.data.on_device.held`.
        on_unreadable: `stop`, or `skip` unreadable images with a warning.
        allow_leakage: Continue if splits share patients or knees; this is reported, and `caveats` gets `leaky`.
        seed: Of the order of batches.
        quiet: No progress bar.
    """

    def __init__(
        self,
        source: Callable[[], pd.DataFrame],
        *,
        name: str,
        preprocessing: Preprocessing,
        batch_size: int,
        eval_batch_size: int | None = None,
        fraction: float = 1.0,
        sampler: str = "none",
        split: str = "official",
        split_table: str | None = None,
        base: Path | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 0,
        folds: int | None = None,
        fold: int = 0,
        fold_val: bool = True,
        cache_dir: str | None = None,
        on_device: str = "auto",
        on_unreadable: str = "stop",
        allow_leakage: bool = False,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        super().__init__()
        self.source, self.name, self.preprocessing = source, name, preprocessing
        self.read = reader_of(source)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size or 2 * batch_size
        self.fraction, self.sampler, self.seed, self.quiet = fraction, sampler, seed, quiet
        self.split, self.val_fraction, self.test_fraction = split, val_fraction, test_fraction
        self.split_table, self.base = split_table, base
        self.split_seed, self.folds, self.fold, self.fold_val = split_seed, folds, fold, fold_val
        self.cache_dir = user_path(cache_dir) if cache_dir else None
        self.on_unreadable, self.allow_leakage, self.on_device = on_unreadable, allow_leakage, on_device
        self.tables: dict[str, pd.DataFrame] = {}
        self.counts: dict[str, list[int]] = {}
        self.caveats: list[str] = []
        self._said: set[str] = set()
        self.fingerprint = ""
        self.split_name = ""  # how the splits were made; for a table, its checksum
        self._table: st.SplitTable | None = None

    def prepare(self, splits: Sequence[str], manifest_file: Path | None = None) -> KneeDataModule:
        """Build manifest, splits and cache of the named splits; files of other splits are not opened.

        Args:
            splits: E.g. train and val; or the one split to evaluate; or `all` alone: every knee of any split, except
                those of `auto_test`.
            manifest_file: Where to write the manifest of these splits (Parquet).

        Raises:
            InputError: The data has a fault; the message is one line.
        """
        self._prepare(splits, manifest_file)
        pa.default_memory_pool().release_unused()  # only the arrays and small tables are still alive
        return self

    def _prepare(self, splits: Sequence[str], manifest_file: Path | None) -> None:
        rows = mf.add_hashes(self.rows(splits), splits, self.read)
        if self._table is not None:
            st.say_changes(rows, self._table, self.base)
        cache = open_cache(
            rows["path"].tolist(),
            rows["hash"].tolist(),
            rows["side"].tolist(),
            self.preprocessing,
            self.cache_dir,
            self.quiet,
            row_reader(rows, self.read),
        )
        readable, skipped = unreadable.readable(len(rows), cache.unreadable, self.on_unreadable)
        if skipped:
            self._add_caveat(f"{len(cache.unreadable)} unreadable images skipped", skipped)
            mf.check_splits(rows[readable], splits, f"data={self.name}")
        if len(splits) > 1:
            known = leakage.known_pairs(rows["hash"], rows["path"])
            self._refuse(leakage.shared_knees(rows, cache.pixels, known, f"data={self.name}"))
        rows = self._with_repairs(rows, cache)
        self._say_films(rows["path"], cache.films)
        self.fingerprint = mf.fingerprint(rows[readable], splits)
        for split in splits:
            numbers = np.flatnonzero(readable & (rows["split"] == split).to_numpy())
            grades = rows["grade"].to_numpy()[numbers]
            self.datasets[split] = KneeDataset(cache.images, numbers, grades, cache.shapes[numbers])
            self.counts[split] = mf.counts(rows.iloc[numbers], split)
            if split != "train" or len(splits) == 1:  # nothing needs the rows of a training split
                self.tables[split] = rows.iloc[numbers].reset_index(drop=True)
        if manifest_file is not None:
            rows[readable].to_parquet(manifest_file)

    def rows(self, splits: Sequence[str]) -> pd.DataFrame:
        """Return the manifest of these splits, checked; no image is opened.

        Args:
            splits: As in `prepare`.

        Raises:
            InputError: A name, a grade or a split is wrong; the message is one line.
        """
        manifest = self.manifest(splits)
        mf.check_splits(manifest, splits, f"data={self.name}")
        return manifest[manifest["split"].isin(list(splits))].reset_index(drop=True)

    def rows_of(self, splits: Sequence[str]) -> list[pd.DataFrame]:
        """Return the manifest rows of each prepared split, in the order of its data set; no image is opened.

        Args:
            splits: All prepared splits, in the order of preparation.
        """
        rows = self.rows(splits)
        return [rows.iloc[self.datasets[split].rows].reset_index(drop=True) for split in splits]

    def manifest(self, splits: Sequence[str] = mf.SPLITS) -> pd.DataFrame:
        """Return the manifest with all splits assigned, the train split reduced to `fraction`; no image is opened.

        Args:
            splits: Those to be read; `all` alone: no splits are made.

        Raises:
            InputError: A patient is in two splits, or the splits cannot be made.
        """
        made = self.whole(splits)
        return self.reduced(made) if "train" in splits else made

    def whole(self, splits: Sequence[str] = mf.SPLITS) -> pd.DataFrame:
        """Return the manifest as in `manifest`, before the train split is reduced.

        Args:
            splits: As in `manifest`.

        Raises:
            InputError: A patient is in two splits, or the splits cannot be made.
        """
        where = f"data={self.name}"
        manifest = self.source()
        self.caveats += [caveat for caveat in mf.caveats(manifest) if caveat not in self.caveats]
        if (manifest["patient"] == "").any():
            self._add_caveat(
                "patients unknown",
                f"{where}: patients are unknown, so the two knees of one patient may be in different splits; "
                "give a column or pattern for the patient",
            )
        if why := implausible(manifest, "the source"):
            self._say(f"WARNING: {where}: {why}: splits and intervals by these patients are meaningless")
        if ALL in splits:
            self.split_name = "none"
            return manifest[manifest["split"] != mf.AUTO_TEST].assign(split=ALL)
        made = self._with_splits(manifest, set(splits), where)
        self._refuse(mf.patients_leak(made, where, {*mf.SPLITS, *splits}))
        return made

    def reduced(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Return a manifest of `whole` with the train split reduced to `fraction`, with a warning and a caveat.

        Raises:
            InputError: No knees would remain for training.
        """
        if self.fraction == 1:
            return manifest
        kept = splitting.fraction(manifest, self.fraction, self.split_seed, self.base)
        share, n = f"{100 * self.fraction:g} % of the train split", (kept["split"] == "train").sum()
        self._add_caveat(share, f"data.fraction={self.fraction:g}: training uses {share}'s patients, {n} knees")
        return kept

    def _with_splits(self, manifest: pd.DataFrame, splits: set[str], where: str) -> pd.DataFrame:
        shares = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        folds = {"n_folds": self.folds, "fold": self.fold, "seed": self.split_seed, "fold_val": self.fold_val}
        ways = Ways(self.split, self.split_table, self.base, shares, folds)
        made = make(manifest, ways, splits, where)
        self.split_name, self._table = made.name, made.table
        return made.manifest

    def _add_caveat(self, caveat: str, warning: str) -> None:
        if caveat not in self.caveats:
            self.caveats.append(caveat)
        self._say(f"WARNING: {warning}")

    def _say(self, line: str) -> None:
        if line not in self._said:  # prepare() may be called once per split
            self._said.add(line)
            print(line, file=sys.stderr, flush=True)

    def _refuse(self, leak: str) -> None:
        """Stop if two splits share knees; with `allow_leakage` add a caveat instead."""
        if leak and not self.allow_leakage:
            raise InputError(f"{leak}; data.allow_leakage=true continues with the caveat `{LEAKY}` on all results")
        if leak:
            self._add_caveat(LEAKY, f"{LEAKY}: {leak}")

    def _with_repairs(self, rows: pd.DataFrame, cache: Cache) -> pd.DataFrame:
        """Return the manifest with a column `repaired` if images may have been inverted."""
        if not self.preprocessing.fix_polarity:
            return rows
        repaired = np.isin(np.arange(len(rows)), cache.repaired)
        self._say(
            f"{repaired.sum()} of {len(rows)} images were inverted (bone dark) and have been repaired "
            "(data.fix_polarity=true); see the manifest's column `repaired`"
        )
        return rows.assign(repaired=repaired)

    def _say_films(self, paths: pd.Series, films: list[int]) -> None:
        if films:
            said = both_knees.words(paths.iloc[films].tolist(), len(paths))
            self._add_caveat(f"{len(films)} films of both knees counted as one knee", f"data={self.name}: {said}")

    @property
    def steps_per_epoch(self) -> int:
        """Batches per training epoch; an incomplete last batch is omitted."""
        return max(1, len(self.datasets["train"]) // self.batch_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of the train split; with several processes, those of this process."""
        data = self.loaded("train")
        shares = (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)
        sampler = EpochSampler(data.grades, self.seed, self.sampler == "balanced", *shares)
        return DataLoader(
            data,
            self.batch_size,
            sampler=sampler,
            drop_last=len(sampler) >= self.batch_size,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )

    def eval_dataloader(self, split: str) -> DataLoader[Batch]:
        """Return the batches of a split in the order of its table."""
        return DataLoader(
            self.loaded(split), self.eval_batch_size, collate_fn=_as_it_is, pin_memory=torch.cuda.is_available()
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the batches of the validation split."""
        return self.eval_dataloader("val")


def _as_it_is(batch: Any) -> Any:
    return batch
