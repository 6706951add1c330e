"""Knees shared by two splits: patients by name, knees by pixels, and near duplicates of an earlier audit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from koa_lightning.data.audit.findings import KINDS, LEAKAGE, WARNING, Finding
from koa_lightning.data.cache import UNKNOWN_PIXELS, default_dir
from koa_lightning.data.manifest import AUTO_TEST, PHANTOM
from koa_lightning.errors import InputError

_NAMED = 3  # pairs listed by an error
_COLUMNS = ("hash_a", "hash_b", "path_a", "path_b", "kind", "similarity", "found")


def sides_of_the_wall(split: pd.Series) -> np.ndarray:
    """Return the split of each row for comparison; `auto_test` has the patients of `test`, so it counts as `test`."""
    return split.replace({AUTO_TEST: "test"}).to_numpy(dtype=object)


def crosses(splits: Sequence[str]) -> bool:
    """Tell whether files of these splits must not show the same knee; rows without a split are ignored."""
    return len({split for split in splits if split}) > 1


def patients(rows: pd.DataFrame) -> list[Finding]:
    """Return a finding for each patient in two splits: the same knee (or an unknown side), or one knee in each."""
    frame = rows.assign(wall=sides_of_the_wall(rows["split"]))[lambda f: (f["patient"] != "") & (f["wall"] != "")]
    splits = frame.groupby("patient")["wall"].nunique()
    leaking = frame[frame["patient"].isin(splits.index[splits > 1])]
    return [_patient(str(name), knees) for name, knees in leaking.groupby("patient", sort=True)]


def _patient(name: str, knees: pd.DataFrame) -> Finding:
    sided = (knees["side"] != "").all()
    apart = sided and not knees[["side", "wall"]].drop_duplicates()["side"].duplicated().any()
    by_split = {str(p): sorted(g["side"].tolist()) for p, g in knees.groupby("split")}
    where = "; ".join(
        f"{split}: {' '.join(s or 'side unknown' for s in _distinct(sides))}" for split, sides in by_split.items()
    )
    return Finding(
        "knees_in_two_parts" if apart else "patient_in_two_parts",
        LEAKAGE,
        knees["path"].tolist(),
        f"patient {name}: {len(knees)} files in {' and '.join(by_split)} ({where})",
        {"patient": name, "n_files": len(knees), "parts": list(by_split)},
        knees.index.tolist(),
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def same_pixels(rows: pd.DataFrame, pixels: np.ndarray) -> list[list[int]]:
    """Return the groups of rows with equal pixels, without unreadable rows."""
    known = np.flatnonzero(pixels != UNKNOWN_PIXELS.encode())
    _, group, size = np.unique(pixels[known], return_inverse=True, return_counts=True)
    shared = known[size[group] > 1]
    frame = pd.DataFrame({"row": shared, "group": group[size[group] > 1]})
    return [members.tolist() for _, members in frame.groupby("group", sort=False)["row"]]


def exact(rows: pd.DataFrame, groups: Sequence[Sequence[int]]) -> list[Finding]:
    """Return a finding for each group of equal pixels, and another if the group has two grades."""
    found = []
    for group in groups:
        knees = rows.iloc[list(group)]
        splits, grades = _distinct(knees["split"]), sorted(set(knees["grade"]) - {-1})
        leaks = crosses(sides_of_the_wall(knees["split"]).tolist())
        bytes_too = len(set(knees["hash"])) == 1
        how = "the same bytes" if bytes_too else "the same pixels in different files"
        numbers = {"n_files": len(knees), "parts": splits, "grades": [int(g) for g in grades], "same_bytes": bytes_too}
        files, where = knees["path"].tolist(), " and ".join(p for p in splits if p) or "no split"
        kind = KINDS["same_pixels"]
        severity = kind.across if leaks else kind.severity
        found.append(Finding("same_pixels", severity, files, f"{len(files)} files, {how}; {where}", numbers, [*group]))
        if len(grades) > 1:
            words = f"{how}, listed under the grades {', '.join(map(str, grades))}; {where}"
            found.append(Finding("two_grades", WARNING, files, words, numbers, [*group]))
    return found


def near(rows: pd.DataFrame, pairs: pd.DataFrame) -> list[Finding]:
    """Return a finding for each pair of near duplicates.

    Args:
        rows: The manifest.
        pairs: row_a, row_b, similarity (0..1), scale, dx, dy (shares of the width).
    """
    found, kind = [], KINDS["near_duplicate"]
    for pair in pairs.sort_values("similarity", ascending=False, kind="stable").to_dict("records"):
        both = [int(pair["row_a"]), int(pair["row_b"])]
        knees = rows.iloc[both]
        splits = knees["split"].tolist()
        leaks = crosses(sides_of_the_wall(knees["split"]).tolist())
        where = " and ".join(_distinct([split or "no split" for split in splits]))
        words = (
            f"similarity {pair['similarity']:.3f}; scaled by {pair['scale']:.2f}, shifted by {pair['dx']:+.0%} "
            f"across and {pair['dy']:+.0%} down; {where}{_names(knees)}"
        )
        numbers = {key: round(float(pair[key]), 4) for key in ("similarity", "scale", "dx", "dy")} | {"parts": splits}
        severity = kind.across if leaks else kind.severity
        found.append(Finding("near_duplicate", severity, knees["path"].tolist(), words, numbers, both))
    return found


def _names(knees: pd.DataFrame) -> str:
    """Say whether the names of a pair indicate one patient or two."""
    first, second = knees["patient"]
    if not first or not second:
        return ""
    return f"; one patient by name ({first})" if first == second else f"; two patients by name ({first}, {second})"


def shared_knees(rows: pd.DataFrame, pixels: np.ndarray, known: pd.DataFrame, where: str) -> str:
    """Return one line about the knees in two splits, or an empty string: the cheap part of the audit.

    Equal bytes mean equal pixels, so comparing pixels is enough.

    Args:
        rows: The manifest of the opened splits.
        pixels: Hash of each row's pixels (`koa_lightning.data.cache.Cache`).
        known: Pairs of an earlier audit (`known_pairs`).
        where: The source's name for messages.
    """
    split, path = sides_of_the_wall(rows["split"]), rows["path"].to_numpy()
    pairs: dict[tuple[int, int], str] = {}
    for group in same_pixels(rows, pixels):
        other = next((row for row in group if crosses([split[row], split[group[0]]])), None)
        if other is not None:
            pairs[group[0], other] = "the same pixels"
    for pair in known.to_dict("records"):
        a, b = int(pair["row_a"]), int(pair["row_b"])
        if crosses([split[a], split[b]]):
            pairs.setdefault((a, b), f"near duplicates in an earlier audit, similarity {pair['similarity']:.2f}")
    if not pairs:
        return ""
    named = [
        f"{path[a]} ({rows['split'].iloc[a]}) and {path[b]} ({rows['split'].iloc[b]}): {why}"
        for (a, b), why in list(pairs.items())[:_NAMED]
    ]
    more = f"; and {len(pairs) - _NAMED} more" if len(pairs) > _NAMED else ""
    return (
        f"{where}: {len(pairs)} pair(s) of files in two splits show the same knee: {'; '.join(named)}{more}; remove "
        "one file of each pair, or put both into one split (python -m koa_lightning.audit with the same data=... "
        "lists them all)"
    )


# --- the results of an earlier audit, for train


def record_file() -> Path:
    """Return the file in which audits record the duplicates they found."""
    return default_dir() / "audit" / "known_duplicates.parquet"


def as_pairs(groups: Sequence[Sequence[int]], near_pairs: pd.DataFrame | None) -> pd.DataFrame:
    """Return duplicates as rows of row_a, row_b, kind and similarity.

    Args:
        groups: Of equal pixels.
        near_pairs: Of near duplicates; None if the audit did not look for them.
    """
    same = [(group[0], other, "same_pixels", 1.0) for group in groups for other in group[1:]]
    pairs = pd.DataFrame(same, columns=["row_a", "row_b", "kind", "similarity"])
    if near_pairs is None or near_pairs.empty:
        return pairs
    close = near_pairs[["row_a", "row_b", "similarity"]].assign(kind="near_duplicate")
    return pd.concat([pairs, close[pairs.columns]], ignore_index=True) if len(pairs) else close[pairs.columns]


def remember(rows: pd.DataFrame, pairs: pd.DataFrame, looked_for: set[str], file: Path | None = None) -> Path:
    """Record the duplicates of this audit for `known_pairs`, merged with those of other audits, in one step.

    An old pair that this audit looked for and did not find is dropped: the files have been corrected.

    Args:
        rows: The manifest, with hashes.
        pairs: See `as_pairs`.
        looked_for: The kinds of findings in this audit.
        file: The record; None: `record_file()`.

    Raises:
        OSError: It cannot be written.
    """
    target = file or record_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    hashes, paths = rows["hash"].to_numpy(dtype=object), _absolute(rows["path"])
    a, b = pairs["row_a"].to_numpy(dtype=np.int64), pairs["row_b"].to_numpy(dtype=np.int64)
    columns: list[Any] = [hashes[a], hashes[b], paths[a], paths[b], pairs["kind"], pairs["similarity"].astype(float)]
    today = datetime.now(UTC).isoformat(timespec="seconds")
    new = pd.DataFrame(dict(zip(_COLUMNS, [*columns, today], strict=True)), columns=list(_COLUMNS))
    with FileLock(target.with_suffix(".lock")):
        old = _read(target)
        if len(old):
            ends = _matched(old, hashes, paths)
            kept = ~((ends >= 0).all(axis=0) & old["kind"].isin(looked_for).to_numpy())
            new = pd.concat([old[kept], new], ignore_index=True) if kept.any() else new
        partial = target.with_suffix(f".{os.getpid()}.part")
        try:
            new.to_parquet(partial)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    return target


def known_pairs(hashes: Iterable[str], paths: Iterable[str], file: Path | None = None) -> pd.DataFrame:
    """Return the pairs among these files from an earlier audit: row_a, row_b (row_a < row_b), kind, similarity.

    A file is recognised by its content wherever it lies now, or by its path however it was re-encoded. Among files
    with the same content the first one counts.

    Raises:
        InputError: The record is damaged.
    """
    columns = ["row_a", "row_b", "kind", "similarity"]
    record = _read(file or record_file())
    if record.empty:
        return pd.DataFrame(columns=columns)
    ends = np.sort(_matched(record, np.array(list(hashes), dtype=object), _absolute(paths)), axis=0)
    both = (ends[0] >= 0) & (ends[0] != ends[1])
    found = pd.DataFrame(
        {"row_a": ends[0], "row_b": ends[1], "kind": record["kind"], "similarity": record["similarity"]}
    )
    return found[both].drop_duplicates(["row_a", "row_b"]).sort_values(["row_a", "row_b"], ignore_index=True)


def _matched(record: pd.DataFrame, hashes: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """Return the row of each end of each recorded pair, int64 2 x N; -1 if it is not among the files."""
    last = len(hashes) - 1
    by_hash = {content: last - i for i, content in enumerate(reversed(hashes)) if content}
    by_path = {path: last - i for i, path in enumerate(reversed(paths))}
    return np.array(
        [
            [
                by_hash.get(h, by_path.get(p, -1))
                for h, p in zip(record[f"hash_{end}"], record[f"path_{end}"], strict=True)
            ]
            for end in "ab"
        ],
        dtype=np.int64,
    ).reshape(2, -1)


def _absolute(paths: Iterable[str]) -> np.ndarray:
    here = os.getcwd()  # noqa: PTH109  (Path would cost a second on a million files)
    return np.array([p if p.startswith(PHANTOM) else os.path.normpath(os.path.join(here, p)) for p in paths], object)  # noqa: PTH118


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        return pd.DataFrame(columns=list(_COLUMNS))
    try:
        return pd.read_parquet(file, columns=list(_COLUMNS))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{file}: damaged ({type(error).__name__}); delete it and run the audit again") from error
