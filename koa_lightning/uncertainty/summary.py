"""How calibration, conformal sets, selective prediction and the check of inputs perform on a split, as dictionaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from koa_lightning.checkpoint.fitted import Calibration, ConformalSets, LeftOut, OutOfDistribution
from koa_lightning.models import outputs
from koa_lightning.uncertainty import (
    calibration,
    conformal,
    out_of_distribution,
    patients,
    recalibrated,
    reliability,
    selective_prediction,
)

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint

OA_GRADE = 2  # radiographic osteoarthritis starts here
CROSS_FITTED = "cross-fitted by patient, because it was fitted on this split"
APART = "on a split that was not used in the fit"
SEEN = "optimistic: these knees include some that were used in training, model choice or the fit"


def evaluate(
    read: Checkpoint,
    logits: Tensor,
    knees: Mapping[str, Sequence[Any]],
    described: Mapping[str, np.ndarray] | None,
    *,
    fingerprint: str,
    alpha: float,
    refer_below: float,
    seen: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return `calibration`, `conformal`, `abstention` and `inputs`; one that cannot be computed has `left_out`.

    On the split of the fit, everything is cross-fitted: a knee is evaluated by a fit without its patient (five folds).

    Args:
        read: The checkpoint.
        logits: Float, N x K.
        knees: Columns `grade` (-1: unknown) and `patient`.
        described: From `out_of_distribution.describe`, for the same knees; None if there is nothing to compare with.
        fingerprint: Of the split.
        alpha: Share of knees whose set may miss the true grade.
        refer_below: See `koa_lightning.evaluation.referral.threshold`.
        seen: Whether these include knees of the training or validation split; the result then says so.
    """
    grade = np.asarray(knees["grade"], dtype=np.int64)
    labelled = np.flatnonzero(grade >= 0)
    group = patients.groups(np.asarray(knees["patient"], dtype=object)[labelled])
    entry = read.record.fitted.calibration or LeftOut("this checkpoint has none")
    own = isinstance(entry, Calibration) and entry.part == fingerprint
    how = CROSS_FITTED if own else SEEN if seen else APART
    split = _Split(read, entry, logits[labelled], grade[labelled], group, how)
    return {
        "calibration": split.calibrated(),
        "conformal": split.covered(alpha),
        "abstention": split.referred(refer_below),
        "inputs": _inputs(read, described, group, how),
    }


class _Split:
    """Labelled knees, with probabilities that were not used in the fit: see `evaluate`."""

    def __init__(
        self,
        read: Checkpoint,
        entry: Calibration | LeftOut,
        logits: Tensor,
        grade: np.ndarray,
        group: np.ndarray,
        how: str,
    ) -> None:
        self.read, self.entry, self.logits, self.grade, self.group, self.how = read, entry, logits, grade, group, how
        self.link = read.record.net.link
        self.raw = outputs.probabilities(logits, self.link).numpy()
        if self.how == CROSS_FITTED:
            method = read.record.fitted.method
            self.calibrated_p = calibration.cross_fitted(logits, self.link, grade, group, method).numpy()
        else:
            self.calibrated_p = recalibrated.probabilities(logits, self.link, entry).numpy()

    def calibrated(self) -> dict[str, Any]:
        """Return method, parameters, and scores and bins before and after calibration."""
        if isinstance(self.entry, LeftOut):
            settings: dict[str, Any] = {"method": "none", "parameters": {}, "left_out": self.entry.reason}
        else:
            parameters = dict(self.entry.parameters)
            settings = {"method": self.entry.method, "parameters": parameters, "measured": self.how}
            settings |= {"lost": self.entry.lost} if self.entry.lost is not None else {}
        return {**settings, **_before_and_after(self.raw, self.calibrated_p, self.grade)}

    def covered(self, alpha: float) -> dict[str, Any]:
        """Return coverage and sizes of the sets."""
        entry = self.read.record.fitted.conformal or self.entry
        if not isinstance(entry, ConformalSets):
            return {"alpha": alpha, "left_out": entry.reason if isinstance(entry, LeftOut) else "no quantiles"}
        if self.how == CROSS_FITTED:
            low, high = self._cross_fitted_sets(alpha)
        else:
            low, high = conformal.sets(self.calibrated_p, conformal.chosen(entry, alpha))
        return {**conformal.evaluate(low, high, self.grade, alpha), "measured": self.how}

    def _cross_fitted_sets(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        fold, low, high = patients.folds(self.group), np.zeros_like(self.grade), np.zeros_like(self.grade)
        for held_out in np.unique(fold):
            inside = fold == held_out
            logits, grade = self.logits[~inside], self.grade[~inside]
            recalibration = calibration.fit(logits, self.link, grade, self.read.record.fitted.method)
            p = recalibrated.probabilities(logits, self.link, recalibration).numpy()
            own = conformal.scores(p)[np.arange(len(p)), grade]
            up_to = conformal.quantile(own, self.group[~inside], alpha)
            low[inside], high[inside] = conformal.sets(self.calibrated_p[inside], up_to)
        return low, high

    def referred(self, refer_below: float) -> dict[str, Any]:
        """Return the risk-coverage curve, its area, and coverage and risk at the threshold."""
        return _referred(self.calibrated_p, self.grade, refer_below)


def of_probabilities(probabilities: np.ndarray, grade: np.ndarray, refer_below: float) -> dict[str, dict[str, Any]]:
    """Return those results of `evaluate` that need no checkpoint; the others have `left_out`.

    Args:
        probabilities: Float, N x 5.
        grade: Integer true grade, N.
        refer_below: See `koa_lightning.evaluation.referral.threshold`.
    """
    none = {"left_out": "a table of probabilities has no checkpoint"}
    scores = _before_and_after(probabilities, probabilities, grade)
    return {
        "calibration": {"method": "none", "parameters": {}, **none, **scores},
        "conformal": none,
        "abstention": _referred(probabilities, grade, refer_below),
        "inputs": none,
    }


def _before_and_after(before: np.ndarray, after: np.ndarray, grade: np.ndarray) -> dict[str, Any]:
    """Return scores, and the bins of the given grade (`bins`) and of osteoarthritis (`bins_oa`)."""
    sides, reaches = {"before": before, "after": after}, grade >= OA_GRADE
    scores = {side: reliability.scores(p, grade) for side, p in sides.items()}
    bins = {side: reliability.bins(p.max(1), p.argmax(1) == grade) for side, p in sides.items()}
    oa = {side: reliability.bins(p[:, OA_GRADE:].sum(1).clip(0, 1), reaches) for side, p in sides.items()}
    return {**scores, "bins": bins, "bins_oa": oa, "n_knees": len(grade)}


def _referred(probabilities: np.ndarray, grade: np.ndarray, refer_below: float) -> dict[str, Any]:
    confidence, is_wrong = probabilities.max(1), probabilities.argmax(1) != grade
    risk = selective_prediction.risks(confidence, is_wrong)
    graded = confidence >= refer_below
    rows = selective_prediction.curve(confidence, is_wrong)
    return {
        "curve": [[coverage, share] for _, coverage, share in rows],
        "thresholds": [threshold for threshold, _, _ in rows],
        "aurc": selective_prediction.aurc(risk),
        "best_aurc": selective_prediction.best_aurc(risk),
        "risk": float(is_wrong.mean()),
        "threshold": refer_below,
        "coverage_at_threshold": float(graded.mean()),
        "risk_at_threshold": float(is_wrong[graded].mean()) if graded.any() else None,
        "n_knees": len(risk),
    }


def _inputs(
    read: Checkpoint, described: Mapping[str, np.ndarray] | None, group: np.ndarray, how: str
) -> dict[str, Any]:
    """Return how many inputs are flagged, cross-fitted if this is the split of the fit."""
    entry = read.record.fitted.out_of_distribution
    if described is None or not isinstance(entry, OutOfDistribution):
        reason = entry.reason if isinstance(entry, LeftOut) else "this checkpoint has no statistics of inputs"
        return {"left_out": reason}
    n = len(described["picture"])
    if how == CROSS_FITTED and len(group) == n:
        score, _ = out_of_distribution.cross_fitted(described, group)
    else:
        score, _ = out_of_distribution.scores(described, read.reference)
    levels = {str(level): float(np.quantile(score, level / 100)) for level in (1, 25, 50, 75, 99)}
    return {
        "threshold": 1.0,
        "n_flagged": int((score > 1).sum()),
        "n_inputs": n,
        "expected_share": entry.flagged,
        "percentiles": levels,
        "measured": how,
    }


def numbers(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers to log to a tracked run, by name.

    Args:
        found: From `evaluate`.
    """
    before, after = found["calibration"]["before"], found["calibration"]["after"]
    values: dict[str, float] = {f"raw/{name}": value for name, value in before.items()}
    values |= {f"calibrated/{name}": value for name, value in after.items()}
    values["aurc"] = found["abstention"]["aurc"]
    if "coverage" in found["conformal"]:
        values |= {f"set_{name}": found["conformal"][name] for name in ("coverage", "mean_size")}
    if "n_flagged" in found["inputs"]:
        values["foreign_share"] = found["inputs"]["n_flagged"] / found["inputs"]["n_inputs"]
    return values


def in_words(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each of the four results.

    Args:
        found: From `evaluate`.
    """
    fitted, sets, graded, inputs = (found[key] for key in ("calibration", "conformal", "abstention", "inputs"))
    before, after = fitted["before"], fitted["after"]
    if "left_out" in fitted:
        lines = [f"calibration: none ({fitted['left_out']}); ece {before['ece']:.3f}"]
    else:
        lines = [
            f"calibration: {calibration.in_words(fitted['method'], fitted['parameters'])}; "
            f"ece {before['ece']:.3f} -> {after['ece']:.3f}, log loss {before['log_loss']:.3f} -> "
            f"{after['log_loss']:.3f}; {fitted['measured']}"
        ]
    if "left_out" in sets:
        lines.append(f"prediction sets: none ({sets['left_out']})")
    else:
        lines.append(
            f"prediction sets: coverage {sets['coverage']:.1%} (nominal {sets['target']:.0%}), "
            f"{sets['mean_size']:.2f} grades on average"
        )
    lines.append(
        f"abstention: area under the risk-coverage curve {graded['aurc']:.3f} (at best {graded['best_aurc']:.3f}; "
        f"at random {graded['risk']:.3f})"
    )
    if graded["threshold"]:
        risk = graded["risk_at_threshold"]
        said = "none is graded" if risk is None else f"{risk:.1%} of the rest are wrong"
        referred = f"{1 - graded['coverage_at_threshold']:.1%} are below {graded['threshold']:.3f} and referred"
        lines[-1] += f"; {referred}, {said}"
    if "left_out" in inputs:
        lines.append(f"out-of-distribution inputs: not checked ({inputs['left_out']})")
    else:
        lines.append(f"out-of-distribution inputs: {inputs['n_flagged']} of {inputs['n_inputs']} flagged")
    return lines
