"""Means over knees with intervals by patient, and verdicts that follow from them by stated rules."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PASSED, FAILED, UNKNOWN = "passed", "failed", "not judged"
BETTER = "the map is better than both controls: the 95 % interval of the paired difference, by patient, lies above 0"
FEWEST_PATIENTS = 10  # with fewer, an interval by resampling patients is unreliable
RESAMPLES = 2000


def resampled(patients: Sequence[str], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw patients with replacement, both knees together.

    Args:
        patients: Patient of each knee, N; a knee without one ("") counts as its own.
        seed: Of the draws.

    Returns:
        How often each draw contains each patient, int64 2000 x P; and the index of each knee's patient, int64 N.
    """
    names = [name or f"\0{row}" for row, name in enumerate(patients)]
    unique, number = np.unique(names, return_inverse=True)
    draws = np.random.default_rng(seed).multinomial(len(unique), np.full(len(unique), 1 / len(unique)), RESAMPLES)
    return draws, number


def mean_interval(values: np.ndarray, patients: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Return the mean over knees and its 95 % percentile interval over patients (Efron 1979).

    Args:
        values: Float, N; a knee without a value has NaN and is omitted.
        patients: As for `resampled`.
        seed: Of the draws.

    Returns:
        `value`, `low`, `high` (None without any knee; no limits below 10 patients), `n` knees and `n_patients`.
    """
    there = np.isfinite(values)
    if not there.any():
        return {"value": None, "low": None, "high": None, "n": 0, "n_patients": 0}
    draws, number = resampled([name for name, use in zip(patients, there, strict=True) if use], seed)
    sums, counts = np.bincount(number, values[there]), np.bincount(number)
    low, high = np.percentile((draws @ sums) / (draws @ counts), (2.5, 97.5))
    enough = len(counts) >= FEWEST_PATIENTS
    return {
        "value": float(values[there].mean()),
        "low": float(low) if enough else None,
        "high": float(high) if enough else None,
        "n": int(there.sum()),
        "n_patients": len(counts),
    }


def against_controls(
    ours: np.ndarray, controls: Mapping[str, np.ndarray], patients: Sequence[str], *, more_is_better: bool
) -> dict[str, Any]:
    """Compare a map's score of each knee with those of control maps; the hardest control decides.

    Args:
        ours: Float, N; NaN where a knee has no value.
        controls: Name to float, N.
        patients: As for `resampled`.
        more_is_better: Whether a larger score is the better one.

    Returns:
        Mean of `map` and of each control; `difference` from the control named `against`, the hardest to beat,
        with `low` and `high` (above 0 the map is better); `n`, `verdict` by `rule`.
    """
    sign = 1 if more_is_better else -1
    differences = {name: mean_interval(sign * (ours - theirs), patients) for name, theirs in controls.items()}
    means = {name: mean_interval(each, patients)["value"] for name, each in {"map": ours, **controls}.items()}
    valid = [name for name, each in differences.items() if each["low"] is not None]
    against = min(valid or list(controls), key=lambda name: differences[name]["low"] or 0.0)
    hardest = differences[against]
    verdict = UNKNOWN if not valid else PASSED if hardest["low"] > 0 else FAILED
    limits = {"difference": hardest["value"], "low": hardest["low"], "high": hardest["high"]}
    return {**means, **limits, "against": against, "n": hardest["n"], "verdict": verdict, "rule": BETTER}
