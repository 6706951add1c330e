"""Batches of knees: manifest -> parts -> cache -> uint8 tensors, fetched a whole batch at once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from koa_lightning.config.places import user_path
from koa_lightning.data import both_knees, splits
from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table as st
from koa_lightning.data.audit import leakage
from koa_lightning.data.audit.findings import LEAKY
from koa_lightning.data.cache import Cache, Preprocessing, open_cache
from koa_lightning.data.dataset import Batch, EpochSampler, KneeDataset
from koa_lightning.data.patients import implausible
from koa_lightning.data.reading import reader_of, row_reader
from koa_lightning.data.split_settings import Ways, make
from koa_lightning.errors import InputError

ALL = "all"  # as a part: every knee, whatever its part


class KneeDataModule(L.LightningDataModule):
    """Knees of one source, in parts by patient.

    Args:
        source: Returns manifest rows; called once. With a method `read(row)` it gives the pictures too, see
            `koa_lightning.data.reading`.
        name: Of the source, for messages and tags.
        preprocessing: Size, fit and canonical side.
        batch_size: Knees a training batch.
        eval_batch_size: Knees a batch where no gradient is needed; twice `batch_size` when None.
        fraction: Share of the train part's patients that is kept, stratified by grade; `marks` says so.
        sampler: `none` or `balanced`.
        split: `official`, `stratified`, or `table`.
        split_table: The file of `table`, see `koa_lightning.data.split_table`.
        base: The folder of the data, which paths are relative to; None where there is none.
        val_fraction, test_fraction: Shares of the patients for `stratified`.
        split_seed: Of the parts; apart from the run's seed so that runs stay comparable.
        folds, fold: With `folds`, fold `fold` is the validation part of what is not test.
        cache_dir: Folder of the cache; None: `KOA_CACHE`, or the user's cache folder.
        on_unreadable: `stop`, or `skip` images that cannot be read (said aloud).
        allow_leakage: Go on where parts share patients or knees; it is said aloud, and `marks` gets `leaky`.
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
        cache_dir: str | None = None,
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
        self.split_seed, self.folds, self.fold = split_seed, folds, fold
        self.cache_dir = user_path(cache_dir) if cache_dir else None
        self.on_unreadable, self.allow_leakage = on_unreadable, allow_leakage
        self.datasets: dict[str, KneeDataset] = {}
        self.tables: dict[str, pd.DataFrame] = {}
        self.counts: dict[str, list[int]] = {}
        self.marks: list[str] = []
        self._said: set[str] = set()
        self.fingerprint = ""
        self.split_name = ""  # says how the parts were made; of a table, its checksum
        self._table: st.SplitTable | None = None

    def prepare(self, parts: Sequence[str], manifest_file: Path | None = None) -> KneeDataModule:
        """Build manifest, parts and cache of the parts named; files of no other part are opened.

        Args:
            parts: E.g. train and val; or the one part to evaluate; or `all` alone: every knee but those of `auto_test`,
                whatever its part.
            manifest_file: Where to write the manifest of these parts (Parquet).

        Raises:
            InputError: Whatever is wrong with the data, in one line.
        """
        self._prepare(parts, manifest_file)
        pa.default_memory_pool().release_unused()  # by now only the arrays and the small tables are alive
        return self

    def _prepare(self, parts: Sequence[str], manifest_file: Path | None) -> None:
        rows = mf.add_hashes(self.rows(parts), parts, self.read)
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
        readable = self._readable(rows, cache.unreadable)
        if not readable.all():
            mf.check_parts(rows[readable], parts, f"data={self.name}")
        if len(parts) > 1:
            known = leakage.known_pairs(rows["hash"], rows["path"])
            self._refuse(leakage.shared_knees(rows, cache.pixels, known, f"data={self.name}"))
        rows = self._with_repairs(rows, cache)
        self._say_films(rows["path"], cache.films)
        self.fingerprint = mf.fingerprint(rows[readable], parts)
        for part in parts:
            numbers = np.flatnonzero(readable & (rows["split"] == part).to_numpy())
            grades = rows["grade"].to_numpy()[numbers]
            self.datasets[part] = KneeDataset(cache.images, numbers, grades, cache.shapes[numbers])
            self.counts[part] = mf.counts(rows.iloc[numbers], part)
            if part != "train" or len(parts) == 1:  # nobody asks for the rows of a part that is trained on
                self.tables[part] = rows.iloc[numbers].reset_index(drop=True)
        if manifest_file is not None:
            rows[readable].to_parquet(manifest_file)

    def rows(self, parts: Sequence[str]) -> pd.DataFrame:
        """Return the manifest of these parts, checked; no file is opened.

        Args:
            parts: As for `prepare`.

        Raises:
            InputError: Whatever is wrong with the names, grades or parts, in one line.
        """
        manifest = self.manifest(parts)
        mf.check_parts(manifest, parts, f"data={self.name}")
        return manifest[manifest["split"].isin(list(parts))].reset_index(drop=True)

    def manifest(self, parts: Sequence[str] = mf.PARTS) -> pd.DataFrame:
        """Return the manifest with all its parts made, the train part reduced to `fraction`; no file is opened.

        Args:
            parts: Those that will be read; `all` alone: no parts are made.

        Raises:
            InputError: A patient is in two parts, or the parts cannot be made.
        """
        made = self.whole(parts)
        return self.reduced(made) if "train" in parts else made

    def whole(self, parts: Sequence[str] = mf.PARTS) -> pd.DataFrame:
        """Return the manifest as `manifest` does, before the train part is reduced.

        Args:
            parts: As for `manifest`.

        Raises:
            InputError: A patient is in two parts, or the parts cannot be made.
        """
        where = f"data={self.name}"
        manifest = self.source()
        self.marks += [mark for mark in mf.marks(manifest) if mark not in self.marks]
        if (manifest["patient"] == "").any():
            self._mark(
                "patients unknown",
                f"{where}: patients are unknown, so both knees of one may be in two parts; "
                "give a column or pattern for the patient",
            )
        if why := implausible(manifest, "the source"):
            self._say(f"WARNING: {where}: {why}: neither parts nor intervals by these patients mean anything")
        if ALL in parts:
            self.split_name = "none"
            return manifest[manifest["split"] != mf.AUTO_TEST].assign(split=ALL)
        made = self._with_parts(manifest, set(parts), where)
        self._refuse(mf.patients_leak(made, where, {*mf.PARTS, *parts}))
        return made

    def reduced(self, manifest: pd.DataFrame) -> pd.DataFrame:
        """Return a manifest of `whole` without what `fraction` leaves out of its train part; that is said and marked.

        Raises:
            InputError: Nothing would be left to train on.
        """
        if self.fraction == 1:
            return manifest
        kept = splits.fraction(manifest, self.fraction, self.split_seed, self.base)
        share, n = f"{100 * self.fraction:g} % of the train part", (kept["split"] == "train").sum()
        self._mark(share, f"data.fraction={self.fraction:g}: {share}'s patients are trained on, {n} knees")
        return kept

    def _with_parts(self, manifest: pd.DataFrame, parts: set[str], where: str) -> pd.DataFrame:
        shares = {"val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        folds = {"n_folds": self.folds, "fold": self.fold, "seed": self.split_seed}
        ways = Ways(self.split, self.split_table, self.base, shares, folds)
        made = make(manifest, ways, parts, where)
        self.split_name, self._table = made.name, made.table
        return made.manifest

    def _mark(self, mark: str, warning: str) -> None:
        if mark not in self.marks:
            self.marks.append(mark)
        self._say(f"WARNING: {warning}")

    def _say(self, line: str) -> None:
        if line not in self._said:  # prepare() may be called once a part
            self._said.add(line)
            print(line, file=sys.stderr, flush=True)

    def _refuse(self, leak: str) -> None:
        """Stop for what two parts share, if anything; with `allow_leakage` mark it instead."""
        if leak and not self.allow_leakage:
            raise InputError(f"{leak}; data.allow_leakage=true goes on, and marks everything `{LEAKY}`")
        if leak:
            self._mark(LEAKY, f"{LEAKY}: {leak}")

    def _with_repairs(self, rows: pd.DataFrame, cache: Cache) -> pd.DataFrame:
        """Return the manifest with a column `repaired` where images may have been inverted on the way."""
        if not self.preprocessing.fix_polarity:
            return rows
        repaired = np.isin(np.arange(len(rows)), cache.repaired)
        self._say(
            f"{repaired.sum()} of {len(rows)} images were inverted (bone dark) and are repaired "
            "(data.fix_polarity=true); the manifest's column `repaired` says which"
        )
        return rows.assign(repaired=repaired)

    def _say_films(self, paths: pd.Series, films: list[int]) -> None:
        if films:
            said = both_knees.words(paths.iloc[films].tolist(), len(paths))
            self._mark(f"{len(films)} films of both knees counted as one knee", f"data={self.name}: {said}")

    def _readable(self, rows: pd.DataFrame, unreadable: dict[int, str]) -> np.ndarray:
        readable = np.ones(len(rows), dtype=bool)
        readable[list(unreadable)] = False
        if not unreadable:
            return readable
        reasons = list(unreadable.values())
        shown = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        if self.on_unreadable == "stop":
            raise InputError(f"{len(reasons)} image(s) cannot be read: {shown}; mend them, or data.on_unreadable=skip")
        self._mark(f"{len(reasons)} unreadable images skipped", f"{len(reasons)} image(s) skipped: {shown}")
        return readable

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one training epoch; a last batch that is not full is left out."""
        return max(1, len(self.datasets["train"]) // self.batch_size)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return shuffled batches of the train part."""
        data = self.datasets["train"]
        sampler = EpochSampler(data.grades, self.seed, self.sampler == "balanced")
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=len(data) >= self.batch_size,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )

    def eval_dataloader(self, part: str) -> DataLoader[Batch]:
        """Return the batches of a part in the order of its table."""
        return DataLoader(
            self.datasets[part],
            batch_size=self.eval_batch_size,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the batches of the validation part."""
        return self.eval_dataloader("val")


def _as_it_is(batch: Any) -> Any:
    return batch
