"""The data of a report: the files of an evaluation or a cross-validation, read and completed. Nothing here draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from koa_lightning.checkpoint import find, reading
from koa_lightning.config import json_files, run_files
from koa_lightning.config.addresses import without_passwords
from koa_lightning.config.kinds import Kind
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.metrics import intervals, subgroups, tables
from koa_lightning.metrics import predictions as table
from koa_lightning.metrics.readers import agreement
from koa_lightning.models import outputs
from koa_lightning.reporting import evaluation_files, provenance
from koa_lightning.uncertainty import summary

CROSS_VALIDATION = "cross_validation.json"
_AGAIN = "evaluate again"
_MOST_GROUPS = 12  # distinct values of a column that is used for subgroups by default


@dataclass
class ReportData:
    """All data of an evaluation.

    Attributes:
        table: Predictions: path, patient, side, grade, p0 to p4, predicted, expected_grade, and further columns.
        about: See `koa_lightning.reporting.provenance.describe`; `models` is empty if they are unknown.
        metrics: Name to {value, low, high[, note]}.
        groups: Rows of `subgroups.by_subgroup`; if empty, `absent` has the reason.
        sections: Contents of further files by name, e.g. `calibration`; a missing file has no entry.
        absent: Name of a missing section -> why it is missing, and how to add it.
        folder: Folder with pictures made by the evaluation, or None.
    """

    table: pd.DataFrame
    about: dict[str, Any]
    metrics: dict[str, dict[str, Any]]
    groups: list[dict[str, Any]] = field(default_factory=list)
    sections: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def labelled(self) -> pd.DataFrame:
        """Return the labelled rows."""
        return table.labelled(self.table)

    @property
    def kind(self) -> str:
        """Return `checkpoint`, `ensemble`, `cross-validation` or `table`."""
        return str(self.about["kind"])

    @property
    def caveats(self) -> list[str]:
        """Return the caveats, which every figure must show."""
        n = self.about["data"].get("n_trained_on")
        seen = [f"evaluated on {n} knees that the model was trained on"] if n else []
        return list(dict.fromkeys([*self.about["marks"], *seen]))

    @property
    def model(self) -> dict[str, Any]:
        """Return the first model; empty where none is known."""
        return self.about["models"][0] if self.about["models"] else {}


def read(
    folder: Path,
    audit: str | None = None,
    columns: Sequence[str] = (),
    edges: Mapping[str, Sequence[float]] | None = None,
    readers: Sequence[str] = (),
) -> ReportData:
    """Read the folder of an evaluation or of a cross-validation.

    Args:
        folder: With `predictions.parquet` or `predictions.csv`.
        audit: `audit.json` of `koa_lightning.audit`, or its folder.
        columns: Columns to compute subgroups by; empty: keep the subgroups of the evaluation, else use side and every
            column of groups.
        edges: Where to cut columns of numbers.
        readers: Columns with readers' grades to compare; empty: keep those of the evaluation.

    Raises:
        InputError: The folder has no predictions, the audit cannot be read, or a column does not exist.
    """
    predictions = tables.read_predictions(folder, where=str(folder))
    _complete(predictions)
    files = {name: folder / f"{name}.json" for name in evaluation_files.SECTIONS}
    sections = {name: _read(file, evaluation_files.SECTIONS[name]) for name, file in files.items() if file.is_file()}
    if (folder / CROSS_VALIDATION).is_file():
        about = _of_cross_validation(folder, predictions)
    else:
        about = _read(folder / provenance.FILE, evaluation_files.ABOUT) or _of_table(predictions, folder.name)
        about = without_passwords(about)
    if about["kind"] == "ensemble" and "ensemble" not in sections:
        raise InputError(f"{folder}: its {provenance.FILE} names an ensemble, but there is no ensemble.json; {_AGAIN}")
    metrics = _read(folder / "intervals.json", evaluation_files.INTERVALS) or {}
    found = ReportData(predictions, about, metrics, sections=sections, folder=folder)
    if not found.metrics:
        found.metrics = intervals.to_json(intervals.with_intervals(predictions))
    if audit:
        sections["audit"] = read_audit(user_path(audit))
    if readers:
        sections["readers"] = _rows(agreement(predictions, readers))
    made = None if columns or edges else _read(folder / "subgroups.json", evaluation_files.SUBGROUPS)
    found.groups = made or _groups(found, columns, edges or {})
    _measure_what_a_table_tells(found)
    _say_what_is_absent(found)
    return found


def _read(file: Path, kind: Kind) -> Any:
    return json_files.read(file, kind, _AGAIN) if file.is_file() else None


def read_audit(path: Path) -> dict[str, Any]:
    """Return the facts of an audit.

    Raises:
        InputError: There is no valid `audit.json`.
    """
    file = path / "audit.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"audit={path}: no audit.json of koa_lightning.audit; name that file, or its folder")
    content = json_files.read(file, evaluation_files.AUDIT, "audit=FOLDER must be written by koa_lightning.audit")
    return {key: content[key] for key in evaluation_files.AUDIT.needed}


def _complete(predictions: pd.DataFrame) -> None:
    """Compute what a table from elsewhere may lack: the predicted, expected and median grade."""
    p = predictions[table.PROBABILITIES].to_numpy(dtype=np.float64)
    predictions["predicted"] = p.argmax(axis=1)
    predictions["expected_grade"] = p @ np.arange(p.shape[1])
    predictions["median_grade"] = outputs.median_grade(torch.from_numpy(p)).numpy()


def _of_table(predictions: pd.DataFrame, name: str) -> dict[str, Any]:
    """Return the facts about predictions of an unknown model."""
    data = {"name": name, "part": "", "fingerprint": "", "split": "", "n_trained_on": None}
    return provenance.describe(
        kind="table", models=[], predictions=predictions, data=data, caveats=[], settings={}, tracking={}
    )


def _of_cross_validation(folder: Path, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the facts about a cross-validation, from the checkpoints of its folds."""
    record = json_files.read(folder / CROSS_VALIDATION, run_files.CROSS_VALIDATION)
    reads = [reading.read(file) for file in find.of_folds(folder)]
    models = [provenance.of_model(each, f"fold {fold}") for fold, each in enumerate(reads)]
    own = models[0]["data"]
    data = {"name": own["name"], "part": "out of fold", "fingerprint": "", "split": own.get("split", "")}
    return provenance.describe(
        kind="cross-validation",
        models=models,
        predictions=predictions,
        data={**data, "n_trained_on": 0},
        caveats=list(dict.fromkeys(caveat for each in reads for caveat in each.record.caveats)),
        settings={"n_folds": len(reads), "tta": "none"},
        tracking={"run_id": record.get("run_id") or "", "uri": record.get("uri") or ""},
    )


def _groups(found: ReportData, columns: Sequence[str], edges: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the metrics by subgroup: by the given columns, else by side and every column of groups."""
    chosen = list(columns) or ([] if edges else _columns_of_groups(found.labelled))
    if not chosen and not edges:
        found.absent["groups"] = (
            "No subgroups: no column of the table separates groups (side is the same or unknown for all); add columns "
            "to the data's table, e.g. age, sex or site."
        )
        return []
    return _rows(subgroups.by_subgroup(found.table, chosen, edges=edges))


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as the evaluation writes it: a list of rows, empty cells as None."""
    listed = table.astype("object").where(table.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in listed]


def _columns_of_groups(labelled: pd.DataFrame) -> list[str]:
    own = {*table.COLUMNS, "fold", "members", "overlay", "name"} - {"side"}
    return [
        str(name)
        for name in labelled.columns
        if name not in own and 1 < labelled[name].replace("", None).nunique() <= _MOST_GROUPS
    ]


def _measure_what_a_table_tells(found: ReportData) -> None:
    """Add reliability and the risk-coverage curve of the unchanged probabilities, if the evaluation wrote none."""
    labelled = found.labelled
    p, grade = labelled[table.PROBABILITIES].to_numpy(dtype=np.float32), labelled["grade"].to_numpy(dtype=np.int64)
    computed = summary.of_probabilities(p, grade, 0.0)
    found.sections.setdefault("calibration", {**computed["calibration"], "left_out": _AS_THEY_ARE[found.kind]})
    found.sections.setdefault("abstention", computed["abstention"])


_AS_THEY_ARE = {
    "checkpoint": "the evaluation has none",
    "table": "the probabilities of the table, unchanged",
    "ensemble": "the averaged probabilities, unchanged",
    "cross-validation": "the probabilities of each fold's network, unchanged",
}
_COMMANDS: Mapping[str, tuple[str, str]] = {
    "conformal": (
        "No prediction sets: they are calibrated on the validation split of one checkpoint",
        "evaluate a checkpoint that has them (python -m koa_lightning.calibrate ckpt=FILE adds them).",
    ),
    "inputs": (
        "Out-of-distribution inputs were not checked: that needs images and a checkpoint with reference statistics",
        "evaluate a checkpoint that has them (python -m koa_lightning.calibrate ckpt=FILE adds them).",
    ),
    "explanations": (
        "Explanations were not tested in this evaluation",
        "python -m koa_lightning.eval ckpt=FILE explain.tests=true tests them.",
    ),
    "audit": (
        "No audit was given, so duplicates and mislabelled files are not ruled out here",
        "python -m koa_lightning.audit finds them, and audit=FOLDER adds its result to this report.",
    ),
    "readers": (
        "No readers' grades were given, so the model cannot be compared with readers",
        "add columns with readers' grades and readers=[reader_1,reader_2].",
    ),
}


def _say_what_is_absent(found: ReportData) -> None:
    """Record in one sentence why each missing section is missing; an omitted one has its own reason."""
    for name, (what, command) in _COMMANDS.items():
        content = found.sections.get(name)
        if content is None:
            found.absent[name] = f"{what}; {command}"
        elif isinstance(content, dict) and content.get("left_out") and name != "calibration":
            found.absent[name] = f"{what.split(':')[0]}: {content['left_out']}."
