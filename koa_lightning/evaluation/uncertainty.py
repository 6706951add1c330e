"""A part of the data and a checkpoint: look at the part, fit on it, measure on it, draw and write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from torch import Tensor

from koa_lightning.checkpoint import fitted, training_overlap
from koa_lightning.checkpoint import record as checkpoint
from koa_lightning.data import manifest as mf
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.evaluation import predictor
from koa_lightning.metrics import thresholds
from koa_lightning.metrics.predictions import predictions_table
from koa_lightning.reporting import figures, uncertainty_figures
from koa_lightning.uncertainty import calibration, out_of_distribution, summary
from koa_lightning.uncertainty.fit import fit

Measures = dict[str, dict[str, Any]]


class Written(NamedTuple):
    """The files that were written, and what to say of them, a line each."""

    files: list[Path]
    lines: list[str]


def look(data: KneeDataModule, part: str, features: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Return the descriptions of a part's images, see `out_of_distribution.describe`.

    Args:
        data: With that part.
        part: Its name.
        features: Of its batches, as `out_of_distribution.watching` collected them.
    """
    return out_of_distribution.describe((batch["image"] for batch in data.eval_dataloader(part)), features)


def fit_into(
    read: checkpoint.Checkpoint, data: KneeDataModule, logits: Tensor, features: Sequence[Tensor], method: str
) -> checkpoint.Checkpoint:
    """Fit everything on the validation part and write it into the checkpoint's file; return that, read again.

    Args:
        read: The checkpoint.
        data: With the validation part.
        logits: Of its network on that part, float N x K.
        features: See `look`.
        method: Of recalibration.
    """
    knees = data.tables["val"]
    record, tensors = fit(
        logits, read.record["net"]["link"], _columns(knees), look(data, "val", features), method=method,
        fingerprint=fingerprint(knees),
    )  # fmt: skip
    record["thresholds"] = _thresholds(knees, logits, read.record["net"]["link"], record["calibration"])
    fitted.save(read.path, record, tensors)
    return checkpoint.read(read.path)


def _thresholds(knees: pd.DataFrame, logits: Tensor, link: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the thresholds on the expected grade, tuned on the part as it will be graded, or why there are none."""
    if fitted.left_out(entry):
        return {"left_out": entry["left_out"]}
    return thresholds.tune(predictions_table(knees, logits, link, calibration.probabilities(logits, link, entry)))


def fingerprint(knees: pd.DataFrame) -> str:
    """Return what names exactly the knees of a part's table."""
    return mf.fingerprint(knees, knees["split"].unique().tolist())


def measure_part(
    read: checkpoint.Checkpoint,
    knees: pd.DataFrame,
    logits: Tensor,
    described: dict[str, np.ndarray] | None,
    *,
    alpha: float,
    refer_below: float = 0.0,
    seen: bool = False,
) -> Measures:
    """Return what `summary.measure` does, of a part's table; empty without a known grade."""
    if not (knees["grade"] >= 0).any():
        return {}
    return summary.measure(
        read,
        logits,
        _columns(knees),
        described,
        fingerprint=fingerprint(knees),
        alpha=alpha,
        refer_below=refer_below,
        seen=seen,
    )


def evaluate(
    cfg: DictConfig,
    read: checkpoint.Checkpoint,
    data: KneeDataModule,
    logits: Tensor,
    features: Sequence[Tensor],
    marks: Sequence[str],
    run: Any,
) -> Written:
    """Measure the part of `eval`; write, draw and log what is found.

    Args:
        cfg: Of `eval`, settled.
        read: The checkpoint.
        data: With the part `cfg.split`.
        logits: Float, N x K.
        features: See `look`.
        marks: Printed on the figures.
        run: The tracked run, still open.
    """
    described = look(data, cfg.split, features) if read.inputs else None
    knees, known = data.tables[cfg.split], training_overlap.seen_in_training(read)
    seen = known is not None and bool(knees["hash"].isin(known["hash"]).any())
    found = measure_part(read, knees, logits, described, alpha=cfg.alpha, refer_below=cfg.refer_below, seen=seen)
    if found:
        part = cfg.split if cfg.split in ("train", "val") else "test"
        run.log_metrics({f"trust_{part}/{name}": value for name, value in summary.numbers(found).items()}, read.epoch)
    return write(found, f"{data.name}, {cfg.split} part", marks, Path(cfg.out))


def evaluate_table(cfg: DictConfig, predictions: pd.DataFrame, folder: Path) -> Written:
    """Measure a table from anywhere as far as it goes without a checkpoint; write and draw what is found.

    Args:
        cfg: Of `eval`.
        predictions: grade, p0 to p4.
        folder: Where the files go.
    """
    predictor.settle(cfg, {})
    rows = predictions[predictions["grade"].notna()]
    probabilities = rows[[f"p{grade}" for grade in range(5)]].to_numpy(dtype=np.float32)
    found = summary.of_probabilities(probabilities, rows["grade"].to_numpy(dtype=np.int64), cfg.refer_below)
    return write(found, Path(cfg.table).name, [], folder)


def write(found: Measures, title: str, marks: Sequence[str], folder: Path) -> Written:
    """Write each measure to `NAME.json` and draw the figures.

    Args:
        found: Of `measure_part`.
        title: Of the figures.
        marks: Printed on them.
        folder: Where the files go; it is there.
    """
    files = draw(found, title, marks, folder)
    for name, values in found.items():
        (folder / f"{name}.json").write_text(json.dumps(values, indent=1))
        files.append(folder / f"{name}.json")
    return Written(files, summary.in_words(found) if found else [])


def draw(measured: Measures, title: str, marks: Sequence[str], folder: Path) -> list[Path]:
    """Draw the reliability diagram and the risk-coverage curve; return the files."""
    if not measured:
        return []
    reliability = uncertainty_figures.reliability_figure(measured["calibration"], title, marks)
    risk = uncertainty_figures.risk_coverage_figure(measured["abstention"], title, marks)
    return [figures.save(reliability, folder / "reliability.png"), figures.save(risk, folder / "risk_coverage.png")]


def _columns(knees: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: knees[name].tolist() for name in ("grade", "patient")}
