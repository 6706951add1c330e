"""All checks over all knees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from koa_lightning.data import polarity
from koa_lightning.data.audit import files, labels, leakage, near
from koa_lightning.data.audit.findings import NOTE, WARNING, Finding, in_order
from koa_lightning.data.audit.gather import Knees
from koa_lightning.data.fitting import framed


@dataclass(frozen=True)
class Result:
    """The results of an audit.

    Attributes:
        found: Findings, worst first.
        statistics: See `koa_lightning.data.audit.files.image_statistics`; one row per knee.
        pairs: All duplicates, see `koa_lightning.data.audit.leakage.as_pairs`.
    """

    found: list[Finding]
    statistics: pd.DataFrame
    pairs: pd.DataFrame


def run(knees: Knees, kinds: set[str], oof: pd.DataFrame | None = None, quiet: bool = False) -> Result:
    """Look for these kinds of findings.

    Args:
        knees: The audited knees.
        kinds: Names, see `koa_lightning.data.audit.findings.KINDS`.
        oof: Out-of-fold probabilities (`koa_lightning.data.oof.read_oof`), for suspicious grades.
        quiet: No progress bar.
    """
    paths = knees.rows["path"].tolist()
    statistics = files.image_statistics(knees.images, knees.shapes, quiet)
    found = files.unreadable(paths, knees.unreadable) + files.pictures(paths, statistics, knees.unreadable)
    odd = [finding for finding in files.sizes(paths, knees.shapes) if finding.rows[0] not in knees.films]
    found += odd + files.films(paths, knees.films) + leakage.patients(knees.rows) + _without_patient(knees.rows)
    groups = leakage.same_pixels(knees.rows, knees.pixels)
    found += leakage.exact(knees.rows, groups)
    scores = _polarity(knees) if kinds & {"inverted", "near_duplicate"} else np.zeros(len(paths))
    inverted = scores < 0
    found += [_inverted(knees, row, float(scores[row])) for row in np.flatnonzero(inverted).tolist()]
    near_pairs = None
    if "near_duplicate" in kinds:
        empty = [*knees.unreadable, *(finding.rows[0] for finding in found if finding.kind == "blank")]
        near_pairs = _near(knees, inverted, np.array(empty, dtype=np.int64), quiet)
        found += leakage.near(knees.rows, near_pairs)
    if "suspicious_grade" in kinds and oof is not None:
        found += labels.suspicious(knees.rows, oof)
    kept = [finding for finding in found if finding.kind in kinds]
    return Result(in_order(kept), statistics, leakage.as_pairs(groups, near_pairs))


def _near(knees: Knees, inverted: np.ndarray, empty: np.ndarray, quiet: bool) -> pd.DataFrame:
    """Return the pairs of near duplicates that are not blank and have different pixels."""
    images = knees.images
    if inverted.any():  # search with bone bright; copied on write, so only these rows take memory
        images = np.load(knees.file, mmap_mode="c")
        for row in np.flatnonzero(inverted):
            images[row] = 255 - images[row]
    pairs = near.find_duplicates(images, quiet=quiet)
    a, b = pairs["row_a"].to_numpy(dtype=np.int64), pairs["row_b"].to_numpy(dtype=np.int64)
    wanted = ~np.isin(a, empty) & ~np.isin(b, empty) & (knees.pixels[a] != knees.pixels[b])
    return pairs[wanted].reset_index(drop=True)


def _polarity(knees: Knees) -> np.ndarray:
    """Return the score of each row, float N: negative where inverted, 0 where unreadable."""
    pictures = [framed(image, shape) for image, shape in zip(knees.images, knees.shapes, strict=True)]
    return np.where(knees.readable, polarity.scores(pictures), 0.0)


def _inverted(knees: Knees, row: int, score: float) -> Finding:
    words = f"bone is dark (score {score:.2f}; below 0 means inverted)"
    return Finding("inverted", WARNING, [str(knees.rows["path"].iloc[row])], words, {"score": round(score, 4)}, [row])


def _without_patient(rows: pd.DataFrame) -> list[Finding]:
    unknown = np.flatnonzero(rows["patient"] == "")
    if not len(unknown):
        return []
    words = f"{len(unknown)} of {len(rows)} files have no patient; give a column or pattern for the patient"
    paths = rows["path"].to_numpy()[unknown].tolist()
    return [Finding("no_patient", NOTE, paths, words, {"n_files": len(unknown)}, unknown.tolist())]
