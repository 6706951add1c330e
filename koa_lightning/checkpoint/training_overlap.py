"""The knees that each member of an ensemble may be evaluated on: those it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.config.compose import without_targets
from koa_lightning.data import manifest as mf
from koa_lightning.data.build import data_module
from koa_lightning.data.datamodule import ALL, KneeDataModule
from koa_lightning.errors import InputError


@dataclass(frozen=True)
class Knees:
    """The knees that the members are evaluated on.

    Attributes:
        rows: The manifest of these knees.
        allowed: bool, members x knees: whether the member was not trained on the knee or its patient.
        said: One line that sums this up.
        unknown: Names of the members whose training knees are not known.
    """

    rows: pd.DataFrame
    allowed: np.ndarray
    said: str
    unknown: list[str]


def of_their_own(split: str, modules: Sequence[KneeDataModule], names: Sequence[str]) -> Knees:
    """Return a split of the members' own data: the union over all members, each without its training knees.

    The splits are recomputed from each checkpoint's settings; no file is opened.

    Raises:
        InputError: A patient is in two splits, the members' data differ, or every member was trained on all knees.
    """
    manifests = [_with_splits(module, split).set_index("path") for module in modules]
    wanted = [m[_in_split(m["split"], split)] for m in manifests]
    rows = pd.concat(wanted).reset_index().drop_duplicates("path").sort_values("path", ignore_index=True)
    if rows.empty:
        raise InputError(f"split={split}: the members' data have no knee in this split")
    for name, manifest in zip(names, manifests, strict=True):
        missing = rows.loc[~rows["path"].isin(manifest.index), "path"]
        if len(missing):
            raise InputError(
                f"member {name}: its data lack {missing.iloc[0]} and {len(missing) - 1} more that another member is "
                "evaluated on; evaluate all on the same knees: data=... split=all"
            )
        other = rows.loc[manifest.loc[rows["path"], "grade"].to_numpy() != rows["grade"].to_numpy(), "path"]
        if len(other):
            raise InputError(f"{other.iloc[0]}: the members' data give it different grades; type one data=... for all")
    trained = [_trained_on(m)[rows["path"]].to_numpy() for m in manifests]
    return _guarded(split, rows, ~np.array(trained), [])


def _with_splits(module: KneeDataModule, split: str) -> pd.DataFrame:
    """Return a member's manifest, its splits checked against the evaluated one, as for a single checkpoint.

    A knee that `data.fraction` omitted stays in the manifest without a split: the member was not trained on it.
    """
    whole = module.whole(mf.SPLITS if split == ALL else (*mf.SPLITS, split))
    return whole.assign(split=whole["split"].where(whole.index.isin(module.reduced(whole).index), ""))


def _trained_on(manifest: pd.DataFrame) -> pd.Series:
    """Return for each knee whether it, or another knee of its patient, is in the train split."""
    train = manifest["split"].eq("train")
    patients = set(manifest.loc[train, "patient"]) - {""}
    return train | manifest["patient"].isin(patients)


def _in_split(splits: pd.Series, split: str) -> pd.Series:
    return splits.ne(mf.AUTO_TEST) if split == ALL else splits.eq(split)


def of_other_data(
    split: str,
    given: Mapping[str, Any],
    modules: Sequence[KneeDataModule],
    reads: Sequence[Checkpoint],
    names: Sequence[str],
) -> Knees:
    """Return a split of the given data without each member's training knees: by file content, then by patient."""
    rows = mf.add_hashes(modules[0].rows((split,)), (split,), modules[0].read)
    allowed, unknown = [], []
    for name, read in zip(names, reads, strict=True):
        known = seen_in_training(read)
        if known is None:
            unknown.append(name)
            allowed.append(np.ones(len(rows), dtype=bool))
        else:
            allowed.append(~was_trained_on(rows, known, names_alike(given, read)))
    return _guarded(split, rows, np.array(allowed), unknown)


def seen_in_training(read: Checkpoint) -> pd.DataFrame | None:
    """Return the manifest (hash, patient, split) of a checkpoint's train and validation splits; None if it is lost.

    It is read from the run folder. If the checkpoint was moved elsewhere, it is rebuilt from the data, if those are
    still in place. Either must have the checkpoint's fingerprint.
    """
    splits, file = ("train", "val"), read.path.resolve().parent.parent / "manifest.parquet"
    try:
        if file.is_file():
            rows = pd.read_parquet(file)
        else:
            data = data_module(read.data_config(), quiet=True)
            rows = mf.add_hashes(data.rows(splits), splits, data.read)
    except InputError:  # the caller reports it, with the names of all such members
        return None
    return rows if mf.fingerprint(rows, splits) == read.record.data.fingerprint else None


def names_alike(given: Mapping[str, Any] | None, read: Checkpoint) -> bool:
    """Return whether equal patient names mean the same patient, even in different files: true within one source.

    Chen 2018 names its patients alike in every copy, and its `auto_test` shares no file with the other splits.

    Args:
        given: Plain config of the evaluated data; empty or None for the checkpoint's own.
        read: The checkpoint.
    """
    if not given:
        return True
    if given["name"] != read.record.data.name:
        return False
    same_source = without_targets(given)["source"] == read.record.data_settings.get("source")
    return given["name"] == "chen2018" or same_source


def was_trained_on(rows: pd.DataFrame, seen: pd.DataFrame, alike: bool = False) -> np.ndarray:
    """Return for each knee whether the training used it, or another knee of its patient.

    Patients are compared only if the sources name them alike, or if a knee in both has the same patient: otherwise
    equal names mean nothing.

    Args:
        rows: A manifest with hashes.
        seen: See `seen_in_training`.
        alike: See `names_alike`.
    """
    train = seen[seen["split"] == "train"]
    hit = rows["hash"].isin(train["hash"]).to_numpy(copy=True)
    both = rows.merge(seen[["hash", "patient"]].drop_duplicates("hash"), on="hash", suffixes=("", "_seen"))
    if alike or (both["patient"].ne("") & both["patient"].eq(both["patient_seen"])).any():
        patients = set(train["patient"]) - {""}
        hit |= rows["patient"].isin(patients).to_numpy()
    return hit


def _guarded(split: str, rows: pd.DataFrame, allowed: np.ndarray, unknown: list[str]) -> Knees:
    """Omit the knees that every member was trained on; sum up in one line which members grade each knee."""
    n_members = allowed.sum(axis=0)
    kept = n_members > 0
    if not kept.any():
        raise InputError(
            f"split={split}: every member was trained on all of these {len(rows)} knees; evaluate on others: "
            "split=test, or split=val of a cross-validation"
        )
    n, total = n_members[kept], len(allowed)
    if (n == total).all():
        said = f"{total} members, none trained on any of the {kept.sum()} knees"
    elif (n == 1).all():
        said = f"out of fold: each of the {kept.sum()} knees is graded by the one member of {total} not trained on it"
    else:
        said = (
            f"each of {kept.sum()} knees is graded by the members not trained on it: {n.min()} to {n.max()} of {total}"
        )
    if unknown:
        lost = f"the training knees of {', '.join(unknown)} are not known: no manifest.parquet, no data in their place"
        said = f"{said.replace(', none trained on any of the', ' on')}; {lost}"
    if not kept.all():
        said += f"; {(~kept).sum()} omitted, as every member was trained on them"
    return Knees(rows[kept].reset_index(drop=True), allowed[:, kept], said, unknown)
