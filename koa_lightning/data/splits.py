"""Parts by patient: no patient is in two of them, and every part has its share of each grade.

The grade of a patient for stratifying is the sorted pair of the knees' grades, worst first. Patients are put in order
by it, and by a keyed hash inside it, and dealt out in that order. So the rare grade 4 is spread first, the order of
the rows does not matter, and the same seed gives the same parts on every machine.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from koa_lightning.errors import InputError


def _ordered_patients(manifest: pd.DataFrame, seed: int) -> list[str]:
    worst_first = manifest.sort_values(["patient", "grade"], ascending=[True, False])
    grades: dict[str, tuple[int, ...]] = worst_first.groupby("patient")["grade"].agg(tuple).to_dict()  # type: ignore[assignment]
    key = f"koa-split-{seed}".encode()

    def order(patient: str) -> tuple[list[int], bytes]:
        digest = hashlib.blake2b(patient.encode(), key=key, digest_size=8).digest()
        return [-grade for grade in grades[patient]], digest

    return sorted(grades, key=order)


def deal(n: int, shares: list[float], seed: int) -> np.ndarray:
    """Deal n ordered patients into parts so that each run of neighbours has nearly these shares.

    Each patient goes to the part that is furthest behind its share (largest remainder); a small seeded offset decides
    which part begins. Returns n part numbers.
    """
    target = np.asarray(shares, dtype=float) / sum(shares)
    behind = np.random.default_rng(seed).uniform(0, 0.5, len(target)) * target
    parts = np.empty(n, dtype=int)
    for i in range(n):
        behind += target
        parts[i] = int(np.argmax(behind))
        behind[parts[i]] -= 1
    return parts


def stratified(
    manifest: pd.DataFrame, *, val_fraction: float, test_fraction: float, seed: int, where: str = "data"
) -> pd.Series:
    """Return the part of each row: `train`, `val` or `test`, stratified by grade and grouped by patient.

    Raises:
        InputError: The fractions leave nothing to train on, or there are fewer patients than parts.
    """
    train = 1 - val_fraction - test_fraction
    if train <= 0:
        raise InputError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to train on"
        )
    names = [n for n, s in (("train", train), ("val", val_fraction), ("test", test_fraction)) if s > 0]
    shares = [s for s in (train, val_fraction, test_fraction) if s > 0]
    patients = _ordered_patients(manifest, seed)
    if len(patients) < len(names):
        raise InputError(f"{where}: {len(patients)} patient(s) cannot be split into {len(names)} parts by patient")
    part = dict(zip(patients, deal(len(patients), shares, seed), strict=True))
    return pd.Series([names[part[p]] for p in manifest["patient"]], index=manifest.index, dtype="str")


def folds(manifest: pd.DataFrame, *, n: int, fold: int, seed: int, where: str = "data") -> pd.Series:
    """Return the part of each row when fold `fold` of `n` is `val` and the others are `train`.

    Raises:
        InputError: There are fewer patients than folds, or the fold is not one of them.
    """
    patients = _ordered_patients(manifest, seed)
    if len(patients) < n:
        raise InputError(f"{where}: {len(patients)} patient(s) are fewer than data.folds={n}")
    if not 0 <= fold < n:
        raise InputError(f"data.fold={fold}: with data.folds={n} it must be 0 to {n - 1}")
    number = dict(zip(patients, deal(len(patients), [1.0] * n, seed), strict=True))
    return pd.Series(["val" if number[p] == fold else "train" for p in manifest["patient"]], index=manifest.index)


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
) -> pd.DataFrame:
    """Return the manifest with its parts set: `official` keeps those of the source, `stratified` makes them anew.

    With folds, the test part stays what it is and the rest is dealt into folds. `auto_test` is left alone.

    Raises:
        InputError: The source has no official parts, or too few patients.
    """
    frame = manifest.copy()
    unknown = frame["patient"] == ""
    frame["patient"] = frame["patient"].where(~unknown, frame["path"])  # each such knee is dealt alone
    own = frame["split"] != "auto_test"
    if split == "official":
        if (frame["split"] == "").any():
            raise InputError(f"{where}: it has no official parts; type data.split=stratified")
    else:
        frame.loc[own, "split"] = stratified(
            frame[own], val_fraction=val_fraction, test_fraction=test_fraction, seed=seed, where=where
        )
    if n_folds is not None:
        rest = frame["split"].isin(["train", "val"])
        frame.loc[rest, "split"] = folds(frame[rest], n=n_folds, fold=fold, seed=seed, where=where)
    frame.loc[unknown, "patient"] = ""
    return frame
