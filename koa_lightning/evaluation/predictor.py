"""What `predict` says of a knee beside its grade: the set, whether the input is foreign, whether to ask a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import Tensor

from koa_lightning.checkpoint.fitted import left_out
from koa_lightning.errors import InputError
from koa_lightning.models.inference import check_finite, grade_logits
from koa_lightning.models.net import KneeNet
from koa_lightning.uncertainty import conformal, out_of_distribution, selective_prediction

if TYPE_CHECKING:
    from koa_lightning.checkpoint.record import Checkpoint

COLUMNS = ["set_low", "set_high", "set", "foreign", "foreign_score", "refer"]
FOREIGN = {  # the part that says so most, see `out_of_distribution.PARTS`
    "posture": "turned or inverted",
    "picture": "not the picture of a knee",
    "texture": "grain or gray values of another kind",
    "features": "the network sees something else",
}


def columns(
    read: Checkpoint,
    logits: Tensor,
    probabilities: np.ndarray,
    described: Mapping[str, np.ndarray] | None,
    *,
    alpha: float,
    refer_below: float,
) -> pd.DataFrame:
    """Return `COLUMNS`, one row a knee; what the checkpoint cannot tell is empty.

    Args:
        read: The checkpoint.
        logits: Float, N x K; the sets are those of the probabilities that the checkpoint promises for them.
        probabilities: Float, N x 5, those that are shown.
        described: Of `out_of_distribution.describe`; None where the checkpoint holds nothing to compare with.
        alpha: Share of knees whose set may miss the true grade.
        refer_below: Knees whose most probable grade is less probable are left to a reader.
    """
    table = pd.DataFrame(index=range(len(probabilities)), columns=COLUMNS)
    table[["set_low", "set_high"]] = table[["set_low", "set_high"]].astype("Int64")
    entry = read.record.get("conformal", {})
    if "limits" in entry:
        low, high = conformal.sets(read.probabilities(logits).numpy(), conformal.chosen(entry, alpha))
        table["set_low"], table["set_high"] = pd.array(low, dtype="Int64"), pd.array(high, dtype="Int64")
        table["set"] = [conformal.words(a, b) for a, b in zip(low, high, strict=True)]
    why = [""] * len(table)
    if described is not None:
        score, worst = out_of_distribution.scores(described, read.inputs)
        table["foreign_score"] = np.round(score, 4)
        why = [FOREIGN[part] if value > 1 else "" for part, value in zip(worst, score, strict=True)]
        table["foreign"] = ["yes" if reason else "no" for reason in why]
    unsure = probabilities.max(1) < refer_below
    table["refer"] = [_advice(*each) for each in zip(why, unsure, strict=True)]
    return table.fillna({"set": "", "foreign": ""})


def grade(
    read: Checkpoint,
    net: KneeNet,
    image: Tensor,
    *,
    flip: bool = False,
    calibrated: bool = True,
    alpha: float = conformal.ALPHA,
    refer_below: float = 0.0,
) -> tuple[Tensor, Tensor, pd.DataFrame]:
    """Grade images; return logits (N x K), the probabilities (float32 N x 5) and `columns`, as `predict` shows them.

    Args:
        read: The checkpoint.
        net: Its network.
        image: uint8, N x 1 x H x W, prepared as the checkpoint wants it.
        flip: Also grade the mirrored image, and average the logits.
        calibrated: False: the raw probabilities.
        alpha: See `columns`.
        refer_below: See `columns`.

    Raises:
        InputError: The network gives no numbers.
    """
    with torch.no_grad(), out_of_distribution.watching(net) as features:
        logits = grade_logits(net, image, flip)
    check_finite(logits, read.path)
    probabilities = read.probabilities(logits, calibrated)
    described = out_of_distribution.describe([image], features[:1]) if read.inputs else None
    judged = columns(read, logits, probabilities.numpy(), described, alpha=alpha, refer_below=refer_below)
    return logits, probabilities, judged


def _advice(foreign_because: str, unsure: bool) -> str:
    reasons = [f"foreign input ({foreign_because})"] if foreign_because else []
    reasons += ["unsure"] if unsure else []
    return f"refer to a reader: {' and '.join(reasons)}" if reasons else ""


def threshold(record: Mapping[str, Any], refer_below: float | None, refer_risk: float | None) -> float:
    """Return the probability under which a grade is left to a reader; 0 where nothing is asked for.

    Args:
        record: Of a checkpoint.
        refer_below: The threshold itself.
        refer_risk: The share of wrong grades that the knees which are graded may have, on the validation part.

    Raises:
        InputError: Both are given; or the checkpoint cannot tell a threshold for that share.
    """
    if refer_below is not None and refer_risk is not None:
        raise InputError(f"refer_below={refer_below:g} and refer_risk={refer_risk:g}: give one of them")
    if refer_risk is None:
        return refer_below or 0.0
    entry = record.get("abstention") or {}
    if "curve" not in entry:
        reason = left_out(entry) or "written by an older version, or before the end of its training"
        raise InputError(f"refer_risk={refer_risk:g}: the checkpoint has no risk curve ({reason}); type refer_below=")
    return selective_prediction.threshold_for(entry, refer_risk)


def settle(cfg: DictConfig, record: Mapping[str, Any]) -> None:
    """Check `alpha`, and put the threshold that `refer_below` or `refer_risk` ask for into `refer_below`.

    Args:
        cfg: Of `eval` or `predict`.
        record: Of the checkpoint; empty where there is none.

    Raises:
        InputError: See `threshold`; or alpha is not one of `conformal.ALPHAS`.
    """
    conformal.place(cfg.alpha)
    cfg.refer_below, cfg.refer_risk = threshold(record, cfg.refer_below, cfg.refer_risk), None


def as_json(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row of `COLUMNS` as JSON values; what is not known is null.

    Args:
        row: Of the table.
    """
    known = bool(row["set"])
    return {
        "set": row["set"] if known else None,
        "set_low": int(row["set_low"]) if known else None,
        "set_high": int(row["set_high"]) if known else None,
        "foreign": {"yes": True, "no": False}.get(row["foreign"]),
        "foreign_score": float(row["foreign_score"]) if row["foreign"] else None,
        "refer": row["refer"],
    }


def warnings(record: Mapping[str, Any], rows: pd.DataFrame, refer_below: float) -> list[str]:
    """Return a line on what the checkpoint does not know, on foreign inputs, and on unsure grades.

    Args:
        record: Of the checkpoint.
        rows: With `COLUMNS`.
        refer_below: Probability under which a grade is unsure.
    """
    lines = []
    entry = record.get("calibration")
    if entry is None:
        how = "python -m koa_lightning.calibrate ckpt=FILE adds them"
        lines.append(f"this checkpoint has no calibration, no prediction sets and no check of inputs; {how}")
    elif reason := left_out(entry):
        lines.append(f"no calibration, no prediction sets and no check of inputs: {reason}")
    n_foreign = int((rows["foreign"] == "yes").sum())
    if n_foreign:
        lines.append(
            f"{n_foreign} of {len(rows)} inputs look foreign (no knee, turned, inverted, or of another kind than the "
            "validation part): their grades mean nothing; column `foreign`"
        )
    n_unsure = int(rows["refer"].str.contains("unsure").sum())
    if n_unsure:
        lines.append(f"{n_unsure} of {len(rows)} grades are less probable than {refer_below:.3f}: refer to a reader")
    return lines
