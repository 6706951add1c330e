"""Everything that is fitted on the validation split after training and stored in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from koa_lightning.checkpoint.fitted import METHODS, Calibration, Fitted, LeftOut, OutOfDistribution
from koa_lightning.uncertainty import (
    calibration,
    conformal,
    out_of_distribution,
    patients,
    recalibrated,
    reliability,
    selective_prediction,
)

MIN_PATIENTS = 50  # with fewer, a quantile at 10 % depends on the five most unusual ones
AUTO = "auto"
"""The method with the lowest cross-fitted log loss."""
_WORTH_A_WORD = 0.005  # gain in log loss above which a better method is mentioned


def fit(
    logits: Tensor,
    link: str,
    knees: Mapping[str, Sequence[Any]],
    described: Mapping[str, np.ndarray],
    *,
    method: str,
    fingerprint: str,
) -> tuple[Fitted, dict[str, Tensor]]:
    """Return the entries (without `thresholds`) and the tensors that a checkpoint keeps.

    A recalibration is kept only if it lowers the cross-fitted log loss.

    Args:
        logits: Float, N x K, of the validation split.
        link: See `koa_lightning.models.outputs`.
        knees: Columns `grade` (-1: unknown, omitted) and `patient`.
        described: From `out_of_distribution.describe`, for the same knees.
        method: Of recalibration, see `calibration.fit`, or `AUTO`.
        fingerprint: Of the split, so that `eval` recognises it.
    """
    grade = np.asarray(knees["grade"], dtype=np.int64)
    labelled = np.flatnonzero(grade >= 0)
    grade, group = grade[labelled], patients.groups(np.asarray(knees["patient"], dtype=object)[labelled])
    if reason := too_little(grade, group):
        return replace(Fitted.left_out(reason), thresholds=None), {}
    own = logits[labelled]
    shares = {way: calibration.cross_fitted(own, link, grade, group, way).numpy() for way in METHODS}
    losses = {way: reliability.scores(p, grade)["log_loss"] for way, p in shares.items()}
    recalls = {way: _recall(p, grade, 1) for way, p in shares.items()}
    kept = _winner(method, losses)
    tried = min((way for way in METHODS if way != "none"), key=lambda way: losses[way]) if method == AUTO else method
    lost = f"{tried} does not lower the cross-fitted log loss, {losses['none']:.4f} -> {losses[tried]:.4f}"
    size: dict[str, Any] = {"n_knees": len(grade), "n_patients": len(np.unique(group)), "part": fingerprint}
    recalibration = replace(
        calibration.fit(own, link, grade, kept),
        lost=lost if kept == "none" != method else None,
        cross_fitted_log_loss=losses,
        cross_fitted_recall_1={way: value for way, value in recalls.items() if value is not None} or None,
        **size,
    )
    p = recalibrated.probabilities(own, link, recalibration).numpy()
    looks = {name: values[labelled] for name, values in described.items()}
    ordinary, _ = out_of_distribution.cross_fitted(looks, group)
    entries = Fitted(
        calibration=recalibration,
        conformal=replace(conformal.fit(p, grade, group), **size),
        selective_prediction=replace(selective_prediction.fit(p.max(1), p.argmax(1) != grade), **size),
        out_of_distribution=OutOfDistribution(flagged=float((ordinary > 1).mean()), **size),
    )
    return entries, out_of_distribution.fit(looks, group)


def _winner(method: str, losses: Mapping[str, float]) -> str:
    """Return the method if it lowers the cross-fitted log loss, else `none`; for `auto`, the one with the lowest."""
    if method == AUTO:
        return min(losses, key=lambda way: losses[way])
    return method if losses[method] < losses["none"] else "none"


def _recall(p: np.ndarray, grade: np.ndarray, of: int) -> float | None:
    """Return the recall of a grade, by the most probable grade; None if no knee has it."""
    own = grade == of
    return float((p[own].argmax(1) == of).mean()) if own.any() else None


def too_little(grade: np.ndarray, group: np.ndarray) -> str:
    """Return why a split is too small to fit anything on, or an empty string.

    Args:
        grade: Integer true grade, N.
        group: From `patients.groups`.
    """
    n_patients = len(np.unique(group))
    if n_patients < MIN_PATIENTS:
        return f"{n_patients} patients with labelled knees in the validation split, at least {MIN_PATIENTS} are needed"
    if len(np.unique(grade)) < 2:
        return f"all knees of the validation split have grade {grade[0]}"
    return ""


def in_words(entry: Calibration | LeftOut | None) -> str:
    """Return one line that says what was fitted, or why nothing was.

    Args:
        entry: The calibration, from `fit`.
    """
    if not isinstance(entry, Calibration):
        return (
            f"not calibrated: {entry.reason if entry else 'nothing was fitted'}; probabilities stay raw, and there are "
            "no prediction sets and no check of inputs"
        )
    loss, method = entry.cross_fitted_log_loss or {}, entry.method
    best = min(loss, key=lambda way: loss[way])
    better = f"; {best} would give {loss[best]:.4f}" if loss[best] < loss[method] - _WORTH_A_WORD else ""
    if entry.lost is not None:
        return (
            f"not calibrated: on the validation split ({entry.n_patients} patients) {entry.lost}; probabilities "
            f"stay raw{better}"
        )
    return (
        f"calibrated on the validation split ({entry.n_patients} patients): "
        f"{calibration.in_words(method, entry.parameters)}, "
        f"cross-fitted log loss {loss['none']:.4f} -> {loss[method]:.4f}{_grade_1(entry)}{better}"
    )


def _grade_1(entry: Calibration) -> str:
    recall = entry.cross_fitted_recall_1
    return f", recall of grade 1 {recall['none']:.2f} -> {recall[entry.method]:.2f}" if recall else ""
