"""Calibration, conformal sets and the rest on a split of knees: fit, evaluate, draw and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from koa_lightning.checkpoint import training_overlap
from koa_lightning.checkpoint.fitted import Calibration, LeftOut, Thresholds
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.checkpoint.writing import store_fitted
from koa_lightning.data import manifest as mf
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.evaluation.grading import Graded
from koa_lightning.evaluation.settings import Settings
from koa_lightning.metrics import thresholds
from koa_lightning.metrics.predictions import predictions_table
from koa_lightning.reporting import saving, uncertainty_figures
from koa_lightning.uncertainty import recalibrated, summary
from koa_lightning.uncertainty.fit import fit

Summaries = dict[str, dict[str, Any]]


class Written(NamedTuple):
    """The files that were written, and the lines to print about the results."""

    files: list[Path]
    lines: list[str]


def described(graded: Graded, data: KneeDataModule, split: str) -> dict[str, np.ndarray]:
    """Return the descriptions of a split's images, see `koa_lightning.uncertainty.out_of_distribution.describe`.

    Args:
        graded: The graded split.
        data: The data with that split.
        split: Its name.
    """
    return graded.described(batch["image"] for batch in data.eval_dataloader(split))


def fit_into(read: Checkpoint, data: KneeDataModule, graded: Graded, method: str) -> Checkpoint:
    """Fit everything on the validation split, store it in the checkpoint's file, and return the updated checkpoint.

    Args:
        read: The checkpoint.
        data: The data with the validation split.
        graded: The graded validation split.
        method: Of recalibration.
    """
    knees, link = data.tables["val"], read.record.net.link
    fitted, reference = fit(
        graded.logits, link, _columns(knees), described(graded, data, "val"), method=method,
        fingerprint=fingerprint(knees),
    )  # fmt: skip
    fitted = replace(fitted, thresholds=_thresholds(knees, graded.logits, link, fitted.calibration))
    store_fitted(read.path, fitted, reference)
    return replace(read, record=replace(read.record, fitted=fitted), reference=reference)


def _thresholds(
    knees: pd.DataFrame, logits: Tensor, link: str, entry: Calibration | LeftOut | None
) -> Thresholds | LeftOut:
    """Return thresholds on the expected grade, tuned on calibrated probabilities, or why there are none."""
    if isinstance(entry, LeftOut):
        return entry
    p = recalibrated.probabilities(logits, link, entry)
    return Thresholds.from_plain(thresholds.tune(predictions_table(knees, logits, link, p)))


def fingerprint(knees: pd.DataFrame) -> str:
    """Return the fingerprint of the knees in a split's table."""
    return mf.fingerprint(knees, knees["split"].unique().tolist())


def evaluate_split(
    read: Checkpoint,
    knees: pd.DataFrame,
    logits: Tensor,
    looks: dict[str, np.ndarray] | None,
    *,
    alpha: float,
    refer_below: float = 0.0,
    seen: bool = False,
) -> Summaries:
    """Return `summary.evaluate` for a split's table; empty if no knee is labelled."""
    if not (knees["grade"] >= 0).any():
        return {}
    return summary.evaluate(
        read,
        logits,
        _columns(knees),
        looks,
        fingerprint=fingerprint(knees),
        alpha=alpha,
        refer_below=refer_below,
        seen=seen,
    )


def evaluate(
    settings: Settings,
    read: Checkpoint,
    data: KneeDataModule,
    graded: Graded,
    caveats: Sequence[str],
    run: Any,
) -> Written:
    """Evaluate calibration and the rest on the split of `eval`; write, draw and log the results.

    Args:
        settings: With the threshold, see `Settings.with_threshold`.
        read: The checkpoint.
        data: The data with the split that is evaluated.
        graded: The graded split.
        caveats: Printed on the figures.
        run: The tracked run, still open.
    """
    looks = described(graded, data, settings.split) if read.reference else None
    knees, known = data.tables[settings.split], training_overlap.seen_in_training(read)
    seen = known is not None and bool(knees["hash"].isin(known["hash"]).any())
    how: dict[str, Any] = {"alpha": settings.alpha, "refer_below": settings.refer_below}
    found = evaluate_split(read, knees, graded.logits, looks, **how, seen=seen)
    if found:
        numbers = summary.numbers(found).items()
        run.log_metrics({f"trust_{settings.logged_split}/{name}": value for name, value in numbers}, read.epoch)
    return write(found, f"{data.name}, {settings.split} split", caveats, settings.out)


def evaluate_table(predictions: pd.DataFrame, name: str, refer_below: float, folder: Path) -> Written:
    """Evaluate what a table from anywhere allows without a checkpoint; write and draw the results.

    Args:
        predictions: A table with grade and p0 to p4.
        name: The table's name, for the figures.
        refer_below: Probability below which a grade is referred to a reader.
        folder: Where the files go.
    """
    rows = predictions[predictions["grade"].notna()]
    probabilities = rows[[f"p{grade}" for grade in range(5)]].to_numpy(dtype=np.float32)
    found = summary.of_probabilities(probabilities, rows["grade"].to_numpy(dtype=np.int64), refer_below)
    return write(found, name, [], folder)


def write(found: Summaries, title: str, caveats: Sequence[str], folder: Path) -> Written:
    """Write each result to `NAME.json` and draw the figures.

    Args:
        found: The results, from `evaluate_split`.
        title: The figures' title.
        caveats: Printed on the figures.
        folder: Where the files go; it must exist.
    """
    files = draw(found, title, caveats, folder)
    for name, values in found.items():
        (folder / f"{name}.json").write_text(json.dumps(values, indent=1))
        files.append(folder / f"{name}.json")
    return Written(files, summary.in_words(found) if found else [])


def draw(found: Summaries, title: str, caveats: Sequence[str], folder: Path) -> list[Path]:
    """Draw the reliability diagram and the risk-coverage curve; return the files."""
    if not found:
        return []
    reliability = uncertainty_figures.reliability_figure(found["calibration"], title, caveats)
    risk = uncertainty_figures.risk_coverage_figure(found["abstention"], title, caveats)
    return [*saving.save(reliability, folder / "reliability"), *saving.save(risk, folder / "risk_coverage")]


def _columns(knees: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: knees[name].tolist() for name in ("grade", "patient")}
