"""What `eval` measures of it on a part: plain dictionaries, one a file, for reports and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from koa_lightning.checkpoint.fitted import left_out
from koa_lightning.models import outputs
from koa_lightning.uncertainty import (
    calibration,
    conformal,
    out_of_distribution,
    patients,
    reliability,
    selective_prediction,
)

if TYPE_CHECKING:
    from koa_lightning.checkpoint.record import Checkpoint

OA_GRADE = 2  # radiographic osteoarthritis starts here
CROSS_FITTED = "cross-fitted by patient, as this is the part that it was fitted on"
APART = "on a part that took no part in the fit"
SEEN = "too good: among these knees are some that it was trained, chosen or fitted on"


def measure(
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
    """Return `calibration`, `conformal`, `abstention` and `inputs`; one that cannot be measured says `left_out`.

    On the part that it was fitted on, all is fitted anew without the patient that it is measured on (five folds).

    Args:
        read: The checkpoint.
        logits: Float, N x K.
        knees: Columns `grade` (-1: unknown) and `patient`.
        described: Of `out_of_distribution.describe`, the same knees; None where the checkpoint has
            nothing to compare with.
        fingerprint: Of the part.
        alpha: Share of knees whose set may miss the true grade.
        refer_below: See `judge.threshold`.
        seen: Whether knees of the train or validation part are among these, which is said then.
    """
    grade = np.asarray(knees["grade"], dtype=np.int64)
    known = np.flatnonzero(grade >= 0)
    group = patients.groups(np.asarray(knees["patient"], dtype=object)[known])
    entry = read.record.get("calibration") or {"left_out": "this checkpoint has none"}
    own = entry.get("part") == fingerprint
    how = CROSS_FITTED if own else SEEN if seen else APART
    part = _Part(read, entry, logits[known], grade[known], group, how)
    return {
        "calibration": part.calibrated(),
        "conformal": part.covered(alpha),
        "abstention": part.referred(refer_below),
        "inputs": _inputs(read, described, group, how),
    }


class _Part:
    """Knees of known grade with the probabilities that they are promised, honestly: see `measure`."""

    def __init__(
        self, read: Checkpoint, entry: dict[str, Any], logits: Tensor, grade: np.ndarray, group: np.ndarray, how: str
    ) -> None:
        self.read, self.entry, self.logits, self.grade, self.group, self.how = read, entry, logits, grade, group, how
        self.link = read.record["net"]["link"]
        self.raw = outputs.probabilities(logits, self.link).numpy()
        method = entry.get("method", "none")
        if self.how == CROSS_FITTED:
            self.promised = calibration.cross_fitted(logits, self.link, grade, group, method).numpy()
        else:
            self.promised = read.probabilities(logits).numpy()

    def calibrated(self) -> dict[str, Any]:
        """Return method, parameters, scores and bins before and after."""
        if reason := left_out(self.entry):
            settings: dict[str, Any] = {"method": "none", "parameters": {}, "left_out": reason}
        else:
            settings = {"method": self.entry["method"], "parameters": self.entry["parameters"], "measured": self.how}
            settings |= {"lost": self.entry["lost"]} if "lost" in self.entry else {}
        return {**settings, **_before_and_after(self.raw, self.promised, self.grade)}

    def covered(self, alpha: float) -> dict[str, Any]:
        """Return coverage and sizes of the sets."""
        entry = self.read.record.get("conformal") or self.entry
        if reason := left_out(entry):
            return {"alpha": alpha, "left_out": reason}
        if self.how == CROSS_FITTED:
            low, high = self._cross_fitted_sets(alpha)
        else:
            low, high = conformal.sets(self.promised, conformal.chosen(entry, alpha))
        return {**conformal.measure(low, high, self.grade, alpha), "measured": self.how}

    def _cross_fitted_sets(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        fold, low, high = patients.folds(self.group), np.zeros_like(self.grade), np.zeros_like(self.grade)
        for held_out in np.unique(fold):
            inside = fold == held_out
            logits, grade = self.logits[~inside], self.grade[~inside]
            recalibration = calibration.fit(logits, self.link, grade, self.entry["method"])
            p = calibration.probabilities(logits, self.link, recalibration).numpy()
            own = conformal.scores(p)[np.arange(len(p)), grade]
            limit = conformal.limit(own, self.group[~inside], alpha)
            low[inside], high[inside] = conformal.sets(self.promised[inside], limit)
        return low, high

    def referred(self, refer_below: float) -> dict[str, Any]:
        """Return the risk-coverage curve, its area, and what the threshold does."""
        return _referred(self.promised, self.grade, refer_below)


def of_probabilities(probabilities: np.ndarray, grade: np.ndarray, refer_below: float) -> dict[str, dict[str, Any]]:
    """Return of what `measure` returns what needs no checkpoint: the rest says `left_out`.

    Args:
        probabilities: Float, N x 5.
        grade: Integer true grade, N.
        refer_below: See `judge.threshold`.
    """
    none = {"left_out": "a table of probabilities brings no checkpoint"}
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
    """Return how many inputs are flagged; without the patient where it is the part that was fitted on."""
    if described is None:
        entry = read.record.get("inputs") or {"left_out": "this checkpoint has no statistics of inputs"}
        return {"left_out": left_out(entry) or "this checkpoint has no statistics of inputs"}
    n = len(described["picture"])
    if how == CROSS_FITTED and len(group) == n:
        score, _ = out_of_distribution.cross_fitted(described, group)
    else:
        score, _ = out_of_distribution.scores(described, read.inputs)
    levels = {str(level): float(np.quantile(score, level / 100)) for level in (1, 25, 50, 75, 99)}
    return {
        "threshold": 1.0,
        "n_flagged": int((score > 1).sum()),
        "n_inputs": n,
        "expected_share": read.record["inputs"]["flagged"],
        "percentiles": levels,
        "measured": how,
    }


def numbers(measured: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return what is worth a line in a tracked run, by name.

    Args:
        measured: Of `measure`.
    """
    before, after = measured["calibration"]["before"], measured["calibration"]["after"]
    values: dict[str, float] = {f"raw/{name}": value for name, value in before.items()}
    values |= {f"calibrated/{name}": value for name, value in after.items()}
    values["aurc"] = measured["abstention"]["aurc"]
    if "coverage" in measured["conformal"]:
        values |= {f"set_{name}": measured["conformal"][name] for name in ("coverage", "mean_size")}
    if "n_flagged" in measured["inputs"]:
        values["foreign_share"] = measured["inputs"]["n_flagged"] / measured["inputs"]["n_inputs"]
    return values


def in_words(measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each of the four.

    Args:
        measured: Of `measure`.
    """
    fitted, sets, graded, inputs = (measured[key] for key in ("calibration", "conformal", "abstention", "inputs"))
    before, after = fitted["before"], fitted["after"]
    if "left_out" in fitted:
        lines = [f"calibration: none ({fitted['left_out']}); ece {before['ece']:.3f}"]
    else:
        lines = [
            f"calibration: {calibration.in_words(fitted)}; ece {before['ece']:.3f} -> {after['ece']:.3f}, log loss "
            f"{before['log_loss']:.3f} -> {after['log_loss']:.3f}; {fitted['measured']}"
        ]
    if "left_out" in sets:
        lines.append(f"prediction sets: none ({sets['left_out']})")
    else:
        lines.append(
            f"prediction sets: {sets['coverage']:.1%} hold the true grade (promised {sets['target']:.0%}), "
            f"{sets['mean_size']:.2f} grades on average"
        )
    lines.append(
        f"abstention: area under the risk-coverage curve {graded['aurc']:.3f} (at best {graded['best_aurc']:.3f}; "
        f"without order {graded['risk']:.3f})"
    )
    if graded["threshold"]:
        risk = graded["risk_at_threshold"]
        said = "nothing is graded" if risk is None else f"{risk:.1%} of the rest are wrong"
        lines[-1] += f"; below {graded['threshold']:.3f} {1 - graded['coverage_at_threshold']:.1%} are referred, {said}"
    if "left_out" in inputs:
        lines.append(f"foreign inputs: not looked for ({inputs['left_out']})")
    else:
        lines.append(f"foreign inputs: {inputs['n_flagged']} of {inputs['n_inputs']} look foreign")
    return lines
