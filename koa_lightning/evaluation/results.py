"""Metrics of a predictions table with their intervals: result files, remarks, and numbers to log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint.fitted import LeftOut, Thresholds
from koa_lightning.checkpoint.record import CheckpointRecord
from koa_lightning.config.metrics import chosen
from koa_lightning.config.places import user_path
from koa_lightning.data.manifest import n_patients
from koa_lightning.errors import InputError
from koa_lightning.evaluation import files as result_files
from koa_lightning.evaluation.grading import GradedSplit
from koa_lightning.evaluation.settings import Settings
from koa_lightning.losses.build import recorded_loss
from koa_lightning.metrics import constant, readers, subgroups, thresholds
from koa_lightning.metrics import intervals as iv
from koa_lightning.metrics.grade_metrics import compute as grade_metrics
from koa_lightning.metrics.graded import of_table
from koa_lightning.metrics.intervals import Interval
from koa_lightning.metrics.predictions import PROBABILITIES, labelled
from koa_lightning.reporting import console, report_data


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a predictions table.

    Attributes:
        intervals: Name to interval.
        files: The files that were written.
        remarks: Lines that the user should read.
        agreement: Agreement between readers and model, if readers were named.
        groups: Metrics by subgroup, if any was named.
    """

    intervals: dict[str, Interval]
    files: list[Path]
    remarks: list[str]
    agreement: pd.DataFrame = field(default_factory=pd.DataFrame)
    groups: pd.DataFrame = field(default_factory=pd.DataFrame)


def check(settings: Settings, table: pd.DataFrame) -> None:
    """Stop before grading if the subgroups, readers, thresholds or audit in the settings cannot be used.

    Args:
        settings: Only `subgroups`, `edges`, `readers`, `thresholds` and `audit` are read.
        table: The knees, with the extra columns that the predictions table will have.

    Raises:
        InputError: It names the column of `subgroups` or `readers`, or the file of `thresholds` or `audit`.
    """
    subgroups.check(table, settings.subgroups, settings.edges)
    readers.check(table, settings.readers)
    if settings.thresholds is not None:
        labelled = table.assign(grade=table["grade"].astype("Int64").mask(table["grade"] < 0))
        thresholds.read(settings.thresholds, labelled)
    if settings.audit:
        report_data.read_audit(user_path(settings.audit))


def evaluate_table(
    settings: Settings, table: pd.DataFrame, folder: Path, recorded: Thresholds | LeftOut | None = None
) -> Evaluation:
    """Evaluate a predictions table with intervals, and write the results.

    Once everything is computed, and before the first file is written, the files of an earlier evaluation are removed.

    Args:
        settings: The settings of the evaluation.
        table: The predictions.
        folder: For `intervals.json`, `thresholds.json` (of split=val), `subgroups.*`, `readers.*`.
        recorded: A checkpoint's thresholds, tuned on calibrated probabilities; used if the settings name none.

    Raises:
        InputError: Any error that the user can fix.
    """
    found, remarks = _thresholds(settings, table, recorded)
    cuts = found["thresholds"] if found else None
    how: dict[str, Any] = {"n_resamples": settings.n_resamples, "thresholds": cuts}
    intervals = iv.with_intervals(table, **how)
    by_group, agreement = pd.DataFrame(), pd.DataFrame()
    if settings.subgroups:
        by_group = subgroups.by_subgroup(table, settings.subgroups, edges=settings.edges, **how)
    if settings.readers:
        agreement = readers.agreement(table, settings.readers, **how)
    result_files.remove(folder, settings.thresholds, settings.table)
    files = [_write(folder / "intervals.json", iv.to_json(intervals))]
    if settings.split == "val" and settings.table is None:
        files.append(_write(folder / "thresholds.json", thresholds.tune(table)))
        remarks.append(f"thresholds were tuned on this split; to use them on another, type thresholds={files[-1]}")
    knees = of_table(table)
    if line := constant.no_better(knees.grade, knees.argmax):
        remarks.append(line)
    for name, rows in (("subgroups", by_group), ("readers", agreement)):
        if len(rows.columns):
            files += _write_table(rows, folder, name)
    if "patient" not in table or (table["patient"].fillna("") == "").all():
        remarks.append("no knee has a patient: each counts as its own, so the intervals may be too narrow")
    return Evaluation(intervals, files, remarks, agreement, by_group)


def to_log(evaluation: Evaluation) -> dict[str, float]:
    """Return the numbers to log besides `metrics.json`: name to value, for some also `NAME_low` and `NAME_high`."""
    values, logged, with_ends = {}, chosen("logged"), chosen("logged_ends")
    for name, each in evaluation.intervals.items():
        if each.value is not None and name in logged:
            values[name] = each.value
        if name in with_ends and each.low is not None and each.high is not None:
            values |= {f"{name}_low": each.low, f"{name}_high": each.high}
    return values


def _thresholds(
    settings: Settings, table: pd.DataFrame, recorded: Thresholds | LeftOut | None
) -> tuple[dict[str, Any] | None, list[str]]:
    if settings.thresholds is not None:
        return thresholds.read(settings.thresholds, table), []
    if not isinstance(recorded, Thresholds):
        return None, []
    if not settings.calibrated or settings.split == "all":
        why = "they may have been tuned on these knees" if settings.calibrated else "they are for calibrated=true"
        return None, [f"the checkpoint's thresholds are not used: {why}"]
    found = recorded.to_plain()
    if why := thresholds.tuned_on(found, table):
        return None, [f"the checkpoint's thresholds are not used: they were tuned on {why}"]
    return found, []


def _write(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content, indent=1))
    return file


def _write_table(table: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write a table as CSV and JSON (a list of rows, empty cells as null); return both files."""
    files = [folder / f"{name}.csv", folder / f"{name}.json"]
    table.to_csv(files[0], index=False)
    rows = table.astype("object").where(table.notna(), None).to_dict("records")
    files[1].write_text(json.dumps(rows, indent=1))
    return files


def table_metrics(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of the labelled rows; an undefined one is None."""
    rows = labelled(predictions)
    if rows.empty:
        raise InputError("no labelled knee; use koa_lightning.predict where grades are unknown")
    values = grade_metrics(rows[PROBABILITIES].to_numpy(), rows["grade"].to_numpy(dtype="int64"))
    numbers: dict[str, Any] = {name: value if value == value else None for name, value in values.items()}
    return {**numbers, "n_knees": len(rows), "n_patients": n_patients(rows)}


def split_metrics(graded: GradedSplit, record: CheckpointRecord) -> dict[str, Any]:
    """Return the mean loss (None if the checkpoint names no loss) and the metrics of a graded split.

    The loss is computed from the logits, whether or not the probabilities are calibrated.

    Args:
        graded: The split.
        record: The checkpoint's record, which names the loss.
    """
    counts = record.data.counts.get("train", [])
    loss = recorded_loss(record.loss, record.config.get("loss", {}), counts)
    mean = None if loss is None else mean_loss(loss, graded.logits, graded.table["grade"].fillna(-1))
    return {"loss": mean, **table_metrics(graded.table)}


def mean_loss(loss: torch.nn.Module, logits: Tensor, grade: pd.Series) -> float:
    """Return the mean loss of the labelled knees, as validation computes it; 0 without any.

    Args:
        loss: The loss, called with logits and grades.
        logits: float N x K.
        grade: Grade of each knee, -1 if unknown.
    """
    true = torch.tensor(grade.to_numpy(dtype="int64"))
    labelled = true >= 0
    if not labelled.any():
        return 0.0
    with torch.no_grad():
        return float(loss(logits[labelled], true[labelled]))


def say(
    split: str, metrics: dict[str, Any], found: Evaluation, caveats: list[str], folder: Path, lines: Sequence[str] = ()
) -> None:
    """Print the metrics, their caveats, and where the files are."""
    title = f"{split}: {metrics['n_knees']} knees of {metrics['n_patients']} patients"
    console.say(
        found.intervals,
        title,
        {name: metrics[name] for name in ("loss",) if name in metrics},
        groups=found.groups,
        agreement=found.agreement,
        remarks=found.remarks,
    )
    print("\n".join(lines))
    console.say_caveats(caveats)
    print(DISCLAIMER)
    print(f"written to {folder}")
