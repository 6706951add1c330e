"""Splits by patient: no patient is in two of them, and every split has its share of each grade.

The rule uses the grades of all knees of a patient, usually two. Patients are ordered by their number of knees of
grade 4, then of 3, 2, 1, 0 and of unknown grade (most first); ties are ordered by a keyed hash of their name. Then
they are dealt out in that order. So the rare grade 4 is spread first, the order of the rows does not matter, and the
same seed gives the same splits on every machine.

This guarantees (tested for any manifest): among the patients with the same grades, the number in a split differs by
less than 2 from the split's share of them, and the number in a fold by less than 1. The same holds for the patients
with a knee of grade 4. So every split has grade 4 once there are enough such patients: the split's share of them must
be at least one (7 patients for a share of 0.15, n patients for n folds).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from koa_lightning.data.manifest import AUTO_TEST, GRADES, relative_paths
from koa_lightning.errors import InputError


def _ordered_patients(manifest: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of each row's patient, and the numbers of the patients in the order of dealing."""
    number, patients = pd.factorize(manifest["patient"], sort=True)
    width = len(GRADES) + 1  # unknown grades come last
    cell = number * width + (len(GRADES) - 1 - manifest["grade"].to_numpy(dtype=np.int64))
    knees = np.bincount(cell, minlength=len(patients) * width).reshape(-1, width)  # of each grade, 4 first
    key = f"koa-split-{seed}".encode()
    lot = np.array([hashlib.blake2b(p.encode(), key=key, digest_size=8).digest() for p in patients], dtype="S8")
    # lexsort sorts by the last key first: most knees of grade 4, then of 3, ...
    return number, np.lexsort([lot.view(">u8"), *(-knees[:, ::-1].T)])


def deal(n: int, shares: list[float], seed: int) -> np.ndarray:
    """Deal n ordered patients into splits so that each run of neighbours has nearly these shares.

    Each patient goes to the split furthest behind its share (largest remainder); a small seeded offset decides which
    split begins. Returns n split numbers.
    """
    target = [share / sum(shares) for share in shares]
    offset = np.random.default_rng(seed).uniform(0, 0.5, len(target)).tolist()
    behind = [first * share for first, share in zip(offset, target, strict=True)]
    splits = []
    for _ in range(n):  # plain numbers: an array would take ten times as long for so few splits
        behind = [gap + share for gap, share in zip(behind, target, strict=True)]
        split = behind.index(max(behind))
        behind[split] -= 1
        splits.append(split)
    return np.array(splits, dtype=np.int64)


def _deal_rows(manifest: pd.DataFrame, shares: list[float], seed: int) -> np.ndarray:
    number, order = _ordered_patients(manifest, seed)
    split = np.empty(len(order), dtype=np.int64)
    split[order] = deal(len(order), shares, seed)
    return split[number]


def stratified(
    manifest: pd.DataFrame, *, val_fraction: float, test_fraction: float, seed: int, where: str = "data"
) -> pd.Series:
    """Return the split of each row: `train`, `val` or `test`, stratified by grade and grouped by patient.

    Raises:
        InputError: The fractions leave no knees for training, or there are fewer patients than splits.
    """
    train = 1 - val_fraction - test_fraction
    if train <= 0 or val_fraction < 0 or test_fraction < 0:
        raise InputError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave no knees for training; "
            "give shares of 0 or more whose sum is below 1"
        )
    shares = {name: s for name, s in (("train", train), ("val", val_fraction), ("test", test_fraction)) if s > 0}
    n_patients = manifest["patient"].nunique()
    if n_patients < len(shares):
        raise InputError(
            f"{where}: {n_patients} patient(s) cannot be split into {len(shares)} splits by patient; give more"
        )
    rows = _deal_rows(manifest, list(shares.values()), seed)
    return pd.Series(np.array(list(shares))[rows], index=manifest.index, dtype="str")


def folds(manifest: pd.DataFrame, *, n: int, fold: int, seed: int, where: str = "data") -> pd.Series:
    """Return the split of each row, with fold `fold` of `n` as `val` and the others as `train`.

    Raises:
        InputError: There are fewer patients than folds, or the fold does not exist.
    """
    if n < 2:
        raise InputError(f"data.folds={n}: give 2 or more, or null for one split")
    if not 0 <= fold < n:
        raise InputError(f"data.fold={fold}: with data.folds={n} it must be 0 to {n - 1}")
    n_patients = manifest["patient"].nunique()
    if n_patients < n:
        raise InputError(f"{where}: {n_patients} patient(s) are fewer than data.folds={n}")
    rows = _deal_rows(manifest, [1.0] * n, seed)
    return pd.Series(np.where(rows == fold, "val", "train"), index=manifest.index, dtype="str")


def name(
    manifest: pd.DataFrame,
    split: str,
    shares: Mapping[str, float],
    n_folds: int | None,
    seed: int,
    fold_val: bool = True,
) -> str:
    """Describe what `assign` does with a manifest, for the record of a run."""
    makes_splits = split == "stratified" or (manifest["split"] == "").all()
    said = ", ".join(f"{share.removesuffix('_fraction')} {value:g}" for share, value in shares.items())
    aside = "" if fold_val else " of the train split"
    folds = "" if n_folds is None else f" in {n_folds} folds{aside} (seed {seed})"
    return (f"stratified ({said}, seed {seed})" if makes_splits else "official") + folds


def assign(
    manifest: pd.DataFrame,
    *,
    split: str,
    val_fraction: float,
    test_fraction: float,
    n_folds: int | None,
    fold: int,
    seed: int,
    where: str,
    base: Path | None = None,
    fold_val: bool = True,
) -> pd.DataFrame:
    """Return the manifest with its splits set: `official` keeps those of the source, `stratified` makes new ones.

    A source without any splits is stratified, with a message. With folds, the test split stays unchanged and the rest
    is dealt into folds; if `fold_val` is false, the validation split is dropped first. `auto_test` stays unchanged.
    Knees of unknown patients are distinguished by their path relative to `base`, the data's folder.

    Raises:
        InputError: Only some knees have an official split, or there are too few patients.
    """
    frame = manifest.copy()
    unknown = frame["patient"] == ""
    frame["patient"] = _patients(frame, base)
    own = frame["split"] != AUTO_TEST
    absent = frame.loc[own, "split"] == ""
    makes_splits = own.any() and (split == "stratified" or absent.all())
    if split == "official" and makes_splits:
        print(f"{where}: it has no splits of its own; making them (data.split=stratified)", file=sys.stderr, flush=True)
    elif split == "official" and absent.any():
        raise InputError(f"{where}: {absent.sum()} knee(s) have no official split; type data.split=stratified")
    if makes_splits:
        frame.loc[own, "split"] = stratified(
            frame[own], val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, where=where
        )
        for own_split, share in (("val", val_fraction), ("test", test_fraction)):
            if share and own_split not in frame["split"].to_numpy():
                _say_empty(own_split, share, frame.loc[own, "patient"].nunique(), where)
    if n_folds is not None:
        if not fold_val:
            frame, unknown = frame[frame["split"] != "val"].copy(), unknown[frame["split"] != "val"]
        rest = frame["split"].isin(["train", "val"])
        frame.loc[rest, "split"] = folds(frame[rest], n=n_folds, fold=fold, seed=seed, where=where)
    frame.loc[unknown, "patient"] = ""
    return frame


def _say_empty(split: str, share: float, n_patients: int, where: str) -> None:
    print(
        f"WARNING: {where}: the {split} split is empty: {n_patients} patients are too few for "
        f"data.{split}_fraction={share:g}; give more patients, or a larger share",
        file=sys.stderr,
        flush=True,
    )


def _patients(manifest: pd.DataFrame, base: Path | None) -> pd.Series:
    """Return the patient of each knee; a knee of an unknown patient is dealt alone, by its path relative to `base`."""
    patients, unknown = manifest["patient"].copy(), manifest["patient"] == ""
    patients[unknown] = relative_paths(manifest["path"][unknown], base)
    return patients


def fraction(manifest: pd.DataFrame, share: float, seed: int, base: Path | None = None) -> pd.DataFrame:
    """Return the manifest with this share of the train split's patients, stratified by grade; other splits stay whole.

    Args:
        manifest: With its splits.
        share: In (0, 1].
        seed: Of the draw.
        base: The data's folder, see `assign`.

    Raises:
        InputError: No patients would remain for training.
    """
    train = manifest["split"] == "train"
    if share == 1 or not train.any():
        return manifest
    rows = manifest[train]
    kept = _deal_rows(rows.assign(patient=_patients(rows, base)), [share, 1 - share], seed) == 0
    if not kept.any():
        raise InputError(f"data.fraction={share}: leaves no patient in the train split; give a larger share")
    return manifest.drop(index=manifest.index[train][~kept])
