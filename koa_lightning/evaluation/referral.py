"""The advice beside a grade: its conformal set, whether the input is out-of-distribution, whether to ask a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from koa_lightning.checkpoint.fitted import ConformalSets, Fitted, LeftOut, SelectivePrediction
from koa_lightning.errors import InputError
from koa_lightning.uncertainty import conformal, out_of_distribution, recalibrated, selective_prediction

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint

COLUMNS = ["set_low", "set_high", "set", "foreign", "foreign_score", "acquisition", "refer"]
WHY_OUT_OF_DISTRIBUTION = {  # by the component with the highest score, see `out_of_distribution.COMPONENTS`
    out_of_distribution.ORIENTATION: "turned or inverted",
    "picture": "not the picture of a knee",
    "texture": "unusual grain or gray values",
    "features": "unlike a knee to the network",
}
WHY_OTHER = {"picture": "another crop or position", "texture": "another grain, contrast or border"}


def columns(
    read: Checkpoint,
    logits: Tensor,
    probabilities: np.ndarray,
    described: Mapping[str, np.ndarray] | None,
    *,
    alpha: float,
    refer_below: float,
) -> pd.DataFrame:
    """Return `COLUMNS`, one row per knee; a cell is empty if the checkpoint cannot fill it.

    Args:
        read: The checkpoint.
        logits: Float, N x K; the sets come from their calibrated probabilities.
        probabilities: Float, N x 5, as reported.
        described: From `out_of_distribution.describe`; None if the checkpoint holds nothing to compare with.
        alpha: Share of knees whose set may miss the true grade.
        refer_below: Knees whose most probable grade is less probable are referred to a reader.
    """
    table = _empty(len(probabilities))
    entry = read.record.fitted.conformal
    if isinstance(entry, ConformalSets):
        p = recalibrated.probabilities(logits, read.record.net.link, read.record.fitted.calibration)
        low, high = conformal.sets(p.numpy(), conformal.chosen(entry, alpha))
        table["set_low"], table["set_high"] = pd.array(low, dtype="Int64"), pd.array(high, dtype="Int64")
        table["set"] = [conformal.words(a, b) for a, b in zip(low, high, strict=True)]
    why = [""] * len(table)
    if described is not None:
        score, worst = out_of_distribution.scores(described, read.reference)
        table["foreign_score"] = np.round(score, 4)
        why = [
            WHY_OUT_OF_DISTRIBUTION[component] if value > 1 else ""
            for component, value in zip(worst, score, strict=True)
        ]
        table["foreign"] = ["yes" if reason else "no" for reason in why]
        other = out_of_distribution.acquisitions(described, read.reference)
        pairs = zip(why, other, strict=True)
        table["acquisition"] = ["" if reason else WHY_OTHER.get(component, "as trained") for reason, component in pairs]
    unsure = probabilities.max(1) < refer_below
    table["refer"] = [_advice(*each) for each in zip(why, unsure, strict=True)]
    return table.fillna({"set": "", "foreign": "", "acquisition": ""})


def of_ensemble(probabilities: np.ndarray, refer_below: float) -> pd.DataFrame:
    """Return `COLUMNS` for averaged probabilities: sets and the check of inputs are empty.

    Args:
        probabilities: Float, N x 5.
        refer_below: See `columns`.
    """
    table = _empty(len(probabilities))
    table["refer"] = [_advice("", unsure) for unsure in probabilities.max(1) < refer_below]
    return table.fillna({"set": "", "foreign": "", "acquisition": ""})


def _empty(n: int) -> pd.DataFrame:
    table = pd.DataFrame(index=range(n), columns=COLUMNS)
    table[["set_low", "set_high"]] = table[["set_low", "set_high"]].astype("Int64")
    return table


def _advice(why: str, unsure: bool) -> str:
    reasons = [f"out-of-distribution input ({why})"] if why else []
    reasons += ["unsure"] if unsure else []
    return f"refer to a reader: {' and '.join(reasons)}" if reasons else ""


def threshold(fitted: Fitted, refer_below: float | None, refer_risk: float | None) -> float:
    """Return the probability below which a grade is referred to a reader; 0 if neither setting is given.

    Args:
        fitted: What a checkpoint stores.
        refer_below: The threshold itself.
        refer_risk: The highest error rate allowed among the graded knees of the validation split.

    Raises:
        InputError: Both are given, or the checkpoint has no threshold for that error rate.
    """
    if refer_below is not None and refer_risk is not None:
        raise InputError(f"refer_below={refer_below:g} and refer_risk={refer_risk:g}: give only one of them")
    if refer_risk is None:
        return refer_below or 0.0
    entry = fitted.selective_prediction
    if not isinstance(entry, SelectivePrediction):
        reason = entry.reason if entry else "written by an older version, or before the end of its training"
        raise InputError(f"refer_risk={refer_risk:g}: the checkpoint has no risk curve ({reason}); type refer_below=")
    return selective_prediction.threshold_for(entry, refer_risk)


def as_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of `COLUMNS` as JSON values; unknown ones are null.

    Args:
        row: A row of the table.
    """
    known = bool(row["set"])
    return {
        "set": row["set"] if known else None,
        "set_low": int(row["set_low"]) if known else None,
        "set_high": int(row["set_high"]) if known else None,
        "foreign": {"yes": True, "no": False}.get(row["foreign"]),
        "foreign_score": float(row["foreign_score"]) if row["foreign"] else None,
        "acquisition": row["acquisition"] or None,
        "refer": row["refer"],
    }


def warnings(fitted: Fitted, rows: pd.DataFrame, refer_below: float) -> list[str]:
    """Return warnings about what the checkpoint lacks, out-of-distribution inputs and unsure grades, one line each.

    Args:
        fitted: What the checkpoint stores.
        rows: A table with `COLUMNS`.
        refer_below: Probability below which a grade is unsure.
    """
    lines = []
    entry = fitted.calibration
    if entry is None:
        how = "python -m koa_lightning.calibrate ckpt=FILE adds them"
        lines.append(f"this checkpoint has no calibration, no prediction sets and no check of inputs; {how}")
    elif isinstance(entry, LeftOut):
        lines.append(f"no calibration, no prediction sets and no check of inputs: {entry.reason}")
    n_flagged = int((rows["foreign"] == "yes").sum())
    if n_flagged:
        lines.append(
            f"{n_flagged} of {len(rows)} inputs look out-of-distribution (no knee, turned or inverted): their grades "
            "mean nothing; see column `foreign`"
        )
    n_other = int(rows["acquisition"].isin(WHY_OTHER.values()).sum())
    if n_other:
        lines.append(
            f"{n_other} of {len(rows)} knees come from another acquisition than the validation split (crop, grain, "
            "contrast or borders): calibration may not hold for them; see column `acquisition`"
        )
    n_unsure = int(rows["refer"].str.contains("unsure").sum())
    if n_unsure:
        lines.append(f"{n_unsure} of {len(rows)} grades are less probable than {refer_below:.3f}: refer to a reader")
    return lines
