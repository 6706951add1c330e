"""The manifest: one row per knee, checked before anything is decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from koa_lightning.data.images import read_bytes
from koa_lightning.data.reading import Read, hash_of
from koa_lightning.errors import InputError

GRADES = (0, 1, 2, 3, 4)
GRADE_NAMES = ("none", "doubtful", "minimal", "moderate", "severe")
SPLITS = ("train", "val", "test")
COLUMNS = ("path", "grade", "patient", "side", "split", "hash")
AUTO_TEST = "auto_test"  # the patients of `test` again, cropped by a detector
PHANTOM = "phantom://"
_SPLIT_NAMES = {  # name in lower case, letters and digits only -> the split
    **dict.fromkeys(("train", "training", "trainset", "trainingset"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "validset", "validationset", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "testingset"), "test"),
    "autotest": AUTO_TEST,
}


def split_of(name: str) -> str:
    """Return the split that a common name of a folder or cell stands for, in any case, or an empty string."""
    return _SPLIT_NAMES.get("".join(letter for letter in name.lower() if letter.isalnum()), "")


def make(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    """Convert rows to the manifest's form: sorted by path, with all columns and types.

    Args:
        rows: At least `path`; `grade` (missing: unknown, -1), `patient`, `side`, `split` if known. Further columns
            are kept.
        where: The source's name for messages.

    Raises:
        InputError: There are no rows, or a path is listed twice.
    """
    if rows.empty:
        raise InputError(f"{where}: no knee was found")
    twice = rows["path"][rows["path"].duplicated()]
    if len(twice):
        raise InputError(f"{where}: {twice.iloc[0]} is listed {int((rows['path'] == twice.iloc[0]).sum())} times")
    frame = rows.sort_values("path", ignore_index=True)
    for column in ("patient", "side", "split", "hash"):
        if column not in frame:
            frame[column] = ""
        frame[column] = frame[column].fillna("").astype("str")
    frame["patient"] = frame["patient"].str.normalize("NFC")  # macOS decomposes letters: one patient, two spellings
    frame["grade"] = (frame["grade"] if "grade" in frame else pd.Series(-1, index=frame.index)).astype("int8")
    extra = [column for column in frame.columns if column not in COLUMNS]
    return frame[[*COLUMNS, *extra]]


def caveats(manifest: pd.DataFrame) -> list[str]:
    """Return the caveats of the knees themselves for all figures: some are phantoms, whatever the data's name."""
    return ["phantom data"] if manifest["path"].str.startswith(PHANTOM).any() else []


def relative_paths(paths: pd.Series, base: Path | None) -> list[str]:
    """Return paths relative to the data's folder, so that they do not change when it moves or is typed differently.

    Args:
        paths: As in the manifest.
        base: The data's folder; None leaves the paths unchanged.
    """
    if base is None:
        return paths.tolist()
    start = os.path.abspath(base)  # noqa: PTH100 (resolve would follow links, unlike the paths)
    return [p if p.startswith(PHANTOM) else Path(os.path.relpath(p, start)).as_posix() for p in paths]


def patients_leak(manifest: pd.DataFrame, where: str, splits: Iterable[str] = SPLITS) -> str:
    """Return one line with the patients in two splits, or an empty string.

    Args:
        manifest: Of all splits; knees of unknown patients are skipped.
        where: The source's name for messages.
        splits: The splits to compare. `auto_test` has the patients of `test`, so the two count as one.
    """
    known = manifest.loc[manifest["split"].isin(list(splits)) & (manifest["patient"] != ""), ["patient", "split"]]
    known = known.replace({"split": {AUTO_TEST: "test"}}).drop_duplicates()
    leaking = sorted(known.loc[known.duplicated("patient"), "patient"].unique())
    if not leaking:
        return ""
    names = ", ".join(leaking[:5]) + (f" and {len(leaking) - 5} more" if len(leaking) > 5 else "")
    return (
        f"{where}: {len(leaking)} patient(s) in two splits: {names}; keep all knees of a patient in one split, "
        "or let data.split=stratified make the splits"
    )


def check_patients(manifest: pd.DataFrame, where: str, splits: Iterable[str] = SPLITS) -> None:
    """Stop if a patient is in two splits; see `patients_leak`.

    Raises:
        InputError: Lists the patients' names.
    """
    if leak := patients_leak(manifest, where, splits):
        raise InputError(leak)


def check_grades(manifest: pd.DataFrame, split: str, where: str) -> None:
    """Stop if a split lacks a grade: neither training nor its metrics would be meaningful.

    Raises:
        InputError: Names the split and the missing grades.
    """
    grades = set(manifest.loc[manifest["split"] == split, "grade"].tolist())
    if not grades:
        raise InputError(f"{where}: no knee in the {split} split")
    missing = [str(grade) for grade in GRADES if grade not in grades]
    if missing:
        raise InputError(f"{where}: the {split} split has no knee of grade {', '.join(missing)}; add some or resplit")


def check_splits(manifest: pd.DataFrame, splits: Sequence[str], where: str) -> None:
    """Stop if a split has no knee, or if the train or validation split of a training lacks a grade.

    Args:
        manifest: With its splits.
        splits: Those to be read.
        where: The source's name for messages.

    Raises:
        InputError: Names the split.
    """
    present = set(manifest["split"].unique())
    for split in splits:
        if split not in present:
            there = ", ".join(p for p in (*SPLITS, AUTO_TEST) if p in present) or "none"
            hint = "data.split=stratified makes splits" if "train" in splits else "type split=NAME for another"
            raise InputError(f"{where}: no knee in the {split} split; existing splits: {there}; {hint}")
        if split in ("train", "val") and "train" in splits:
            check_grades(manifest, split, where)


def hash_file(path: str) -> str:
    """Return the content hash of a file (BLAKE2b, 16 bytes, hex); a phantom's name is its content.

    An existing file that cannot be read has an empty hash; the decoder reports why.

    Raises:
        InputError: The file is missing.
    """
    if path.startswith(PHANTOM):
        return hashlib.blake2b(path.encode(), digest_size=16).hexdigest()
    try:
        return hashlib.blake2b(read_bytes(path), digest_size=16).hexdigest()
    except InputError as error:
        if isinstance(error.__context__, FileNotFoundError):
            raise InputError(f"{path}: the file is missing") from None
        return ""


def _hash_files(paths: Iterable[str]) -> list[str]:
    return [hash_file(path) for path in paths]


def add_hashes(manifest: pd.DataFrame, splits: Iterable[str], read: Read | None = None) -> pd.DataFrame:
    """Return the manifest with the hash of every picture of these splits; other pictures are not opened.

    Args:
        manifest: Checked.
        splits: E.g. train and val.
        read: Returns the pictures of a source without files, see `koa_lightning.data.reading`.
    """
    rows = np.flatnonzero(manifest["split"].isin(list(splits)) & (manifest["hash"] == ""))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        if read is not None:
            hashes = list(pool.map(lambda row: hash_of(row, read), manifest.iloc[rows].to_dict("records")))
        else:
            paths = manifest["path"].to_numpy()[rows]
            chunks = np.array_split(paths, -(-len(paths) // 256) or 1)  # a task per file would cost as much as its hash
            hashes = [content for chunk in pool.map(_hash_files, chunks) for content in chunk]
    frame = manifest.copy()
    frame.loc[rows, "hash"] = hashes
    return frame


def counts(manifest: pd.DataFrame, split: str) -> list[int]:
    """Return the number of knees per grade in a split."""
    grades = manifest.loc[manifest["split"] == split, "grade"].to_numpy()
    return np.bincount(grades[grades >= 0], minlength=len(GRADES)).tolist()


def fingerprint(manifest: pd.DataFrame, splits: Iterable[str]) -> str:
    """Return 16 hex digits that identify exactly these knees, grades and splits, wherever the files lie."""
    frame = manifest.loc[manifest["split"].isin(list(splits)), ["hash", "grade", "patient", "side", "split"]]
    lines = frame["hash"] + "," + frame["grade"].astype("str") + "," + frame["patient"] + "," + frame["side"]
    text = "\n".join(sorted(lines + "," + frame["split"]))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def n_patients(table: pd.DataFrame) -> int:
    """Return the number of patients; each knee without one counts as a patient."""
    patients: Sequence[str] = table["patient"].tolist()
    return len({name for name in patients if name}) + sum(not name for name in patients)
