"""A part of the data and a checkpoint: look at the part, fit on it, measure on it, draw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from koa_lightning import checkpoint
from koa_lightning.data import manifest as mf
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.reports import figures, trust_figures
from koa_lightning.trust import foreign, stored
from koa_lightning.trust.fit import fit
from koa_lightning.trust.measure import measure


def look(data: KneeDataModule, part: str, features: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """Return the descriptions of a part's images, see `foreign.describe`.

    Args:
        data: With that part.
        part: Its name.
        features: Of its batches, as `foreign.watching` collected them.
    """
    return foreign.describe((batch["image"] for batch in data.eval_dataloader(part)), features)


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
    stored.save(read.path, record, tensors)
    return checkpoint.read(read.path)


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
) -> dict[str, dict[str, Any]]:
    """Return what `measure.measure` does, of a part's table; empty without a known grade."""
    if not (knees["grade"] >= 0).any():
        return {}
    return measure(
        read, logits, _columns(knees), described, fingerprint=fingerprint(knees), alpha=alpha, refer_below=refer_below
    )


def draw(measured: dict[str, dict[str, Any]], title: str, marks: Sequence[str], folder: Path) -> list[Path]:
    """Draw the reliability diagram and the risk-coverage curve; return the files."""
    if not measured:
        return []
    reliability = trust_figures.reliability_figure(measured["calibration"], title, marks)
    risk = trust_figures.risk_coverage_figure(measured["abstention"], title, marks)
    return [figures.save(reliability, folder / "reliability.png"), figures.save(risk, folder / "risk_coverage.png")]


def _columns(knees: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: knees[name].tolist() for name in ("grade", "patient")}
