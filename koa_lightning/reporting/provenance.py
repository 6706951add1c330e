"""Provenance of an evaluation: models, knees, code and command, as plain values in `evaluation.json`."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import training_overlap, writing
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.config.addresses import public, without_passwords
from koa_lightning.data import manifest as mf
from koa_lightning.tracking.facts import run_facts

if TYPE_CHECKING:
    from koa_lightning.data.datamodule import KneeDataModule

FILE = "evaluation.json"
_KEPT = (
    "version", "net", "preprocessing", "grade_names", "config", "data", "marks", "weights", "plan", "loss", "made_of",
)  # fmt: skip


def of_model(read: Checkpoint, name: str) -> dict[str, Any]:
    """Return the facts about a checkpoint: its record, its size, and the hash and name (no path) of its file."""
    record = writing.to_plain(read.record)
    return {
        "name": name,
        "file": read.path.name,
        "sha256": hashlib.sha256(read.path.read_bytes()).hexdigest(),
        "epoch": read.epoch,
        "n_parameters": sum(tensor.numel() for key, tensor in read.state.items() if _is_parameter(key)),
        "run_id": read.record.tracking.run_id or "",
        **without_passwords({key: record[key] for key in _KEPT if key in record}),  # older records may hold them
        "training": of_training(read),
    }


def _is_parameter(key: str) -> bool:
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def of_training(read: Checkpoint) -> dict[str, Any]:
    """Return patients and knees of each split, and the epochs trained, as far as the run folder still has them."""
    folder, facts = read.path.resolve().parent.parent, dict[str, Any]()
    manifest, history = folder / "manifest.parquet", folder / "history.csv"
    if manifest.is_file():
        rows = pd.read_parquet(manifest)
        if mf.fingerprint(rows, ("train", "val")) == read.record.data.fingerprint:
            facts["parts"] = {split: of_knees(own) for split, own in rows.groupby("split", sort=False)}
    if history.is_file():
        facts["epochs"] = int(pd.read_csv(history)["epoch"].max()) + 1
    return facts


def of_knees(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the size of a table of knees: knees, patients, grades 0 to 4, and sides.

    Args:
        rows: Columns grade (missing or -1: unknown), patient, side.
    """
    grade = rows["grade"].fillna(-1).astype("int64")
    sides = rows["side"].replace("", "unknown").value_counts() if "side" in rows else pd.Series(dtype="int64")
    return {
        "n_knees": len(rows),
        "n_patients": mf.n_patients(rows),
        "grades": [int((grade == each).sum()) for each in mf.GRADES],
        "n_unknown": int((grade < 0).sum()),
        "sides": {str(side): int(n) for side, n in sides.items()},
    }


def describe(
    *,
    kind: str,
    models: Sequence[dict[str, Any]],
    predictions: pd.DataFrame,
    data: dict[str, Any],
    caveats: Sequence[str],
    settings: dict[str, Any],
    tracking: dict[str, str],
) -> dict[str, Any]:
    """Return the provenance of an evaluation.

    Args:
        kind: `checkpoint`, `ensemble`, `cross-validation` or `table`.
        models: See `of_model`; empty if unknown.
        predictions: The predictions table.
        data: `name`, `part`, `fingerprint`, `split` (how the splits were made), and `n_trained_on`: how many of the
            knees a model graded although it was trained on them (None: unknown).
        caveats: Caveats of models and data.
        settings: Settings of the evaluation, e.g. `tta`.
        tracking: `run_id` and `uri`; empty if not tracked.
    """
    return {
        "note": DISCLAIMER,
        "kind": kind,
        "models": list(models),
        "data": {**data, **of_knees(predictions)},
        "marks": list(caveats),
        "settings": settings,
        "tracking": tracking,
        "code": {key: value for key, value in run_facts().items() if not key.startswith("mlflow.")},
        "command": shlex.join(["python", "-m", _module(), *map(public, sys.argv[1:])]) if _module() else "",
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _module() -> str:
    """Return the module that was run as a program, e.g. `koa_lightning.eval`; empty in a notebook or a test."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(spec, "name", "") or ""
    return name if name.startswith("koa_lightning.") else ""


def write(about: dict[str, Any], folder: Path) -> Path:
    """Write `evaluation.json`; return the file."""
    file = folder / FILE
    file.write_text(json.dumps(about, indent=1))
    return file


def of_checkpoint(
    read: Checkpoint,
    data: KneeDataModule,
    split: str,
    given: Mapping[str, Any] | None,
    caveats: Sequence[str],
    settings: dict[str, Any],
    run: Any,
) -> dict[str, Any]:
    """Return the provenance of an evaluation of one checkpoint.

    Args:
        read: The checkpoint.
        data: Data with the evaluated split.
        split: Name of that split.
        given: The data config that the user gave; None: the checkpoint's own.
        caveats: Caveats of checkpoint and data.
        settings: Settings of the evaluation, e.g. `tta`.
        run: The tracked run, open.
    """
    knees, seen = data.tables[split], training_overlap.seen_in_training(read)
    alike = training_overlap.names_alike(given, read)
    return describe(
        kind="checkpoint",
        models=[of_model(read, read.record.name)],
        predictions=knees,
        data={
            "name": data.name,
            "part": split,
            "fingerprint": data.fingerprint,
            "split": data.split_name,
            "n_trained_on": None if seen is None else int(training_overlap.was_trained_on(knees, seen, alike).sum()),
        },
        caveats=caveats,
        settings=settings,
        tracking={"run_id": run.run_id, "uri": run.uri},
    )


def of_table(predictions: pd.DataFrame, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the provenance of an evaluated table whose model is unknown.

    Args:
        predictions: The table.
        name: Name of its file.
        settings: Settings of the evaluation.
    """
    data = {"name": name, "part": "", "fingerprint": "", "split": "", "n_trained_on": None}
    return describe(
        kind="table", models=[], predictions=predictions, data=data, caveats=[], settings=settings, tracking={}
    )
