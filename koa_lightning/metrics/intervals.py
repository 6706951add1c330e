"""Metrics with intervals by bootstrap over patients: `with_intervals(table)`.

Both knees of a patient are drawn together: they are alike, and drawn separately would look like twice the evidence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.config import metrics as declared
from koa_lightning.metrics.graded import Graded, of_table
from koa_lightning.metrics.resampling import block_size, bootstrap_weights, gather
from koa_lightning.metrics.weighted import WeightedMetrics, base
from koa_lightning.models.outputs import N_GRADES

N_RESAMPLES = 2000
LEVEL = 0.95
FEW_PATIENTS = 20  # below it an interval gets a note
MOST_UNDEFINED = 0.05  # share of resamples without a value, above which there is no interval


@dataclass(frozen=True)
class Interval:
    """A metric, its interval, and a note.

    Attributes:
        value: Value on all knees; None if undefined, and `note` says why.
        low: Lower end of the interval; None without an interval, and `note` says why.
        high: Upper end.
        note: A remark, or empty.
    """

    value: float | None
    low: float | None
    high: float | None
    note: str = ""


def with_intervals(
    table: pd.DataFrame,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    thresholds: Sequence[float] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Interval]:
    """Return all metrics of a predictions table with their intervals by bootstrap over patients.

    Args:
        table: grade, p0 to p4, and patient where known; see `tables.read_predictions`. Rows of unknown grade are
            omitted.
        n_resamples: Number of resamples of the patients.
        seed: Of the resamples.
        level: Share of such intervals that should contain the true value.
        thresholds: Four, on the expected grade, tuned on other knees (`thresholds.tune`); they give the metrics with
            the suffix `_tuned`.
        only: Names of the metrics to compute; None: all.

    Returns:
        Name to interval; the names are those of `weighted.names`.

    Raises:
        InputError: No labelled knee.
    """
    return of_graded(of_table(table), n_resamples=n_resamples, seed=seed, level=level, thresholds=thresholds, only=only)


def of_graded(
    knees: Graded,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    thresholds: Sequence[float] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, Interval]:
    """Return what `with_intervals` does, for arrays."""
    metrics = WeightedMetrics(knees, thresholds, only)
    values = metrics(np.ones((1, knees.n_patients)))
    samples, noise = dict[str, np.ndarray](), dict[str, np.ndarray]()
    if knees.n_patients > 1:
        how = (knees.n_patients, n_resamples, seed, block_size(len(knees.grade)))
        samples = gather(bootstrap_weights(*how), metrics)
        if metrics.biased:
            noise = gather(bootstrap_weights(*how), metrics.calibration_noise)
    found = {
        name: _interval(name, float(value[0]), samples.get(name), metrics, level) for name, value in values.items()
    }
    return found | {name: _corrected(found[name], samples[name], added, level) for name, added in noise.items()}


def to_json(intervals: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Return the intervals as plain values: name to `{value, low, high}`, and `note` where there is one."""
    return {
        name: {"value": each.value, "low": each.low, "high": each.high, **({"note": each.note} if each.note else {})}
        for name, each in intervals.items()
    }


def ends(samples: np.ndarray, level: float) -> tuple[float, float]:
    """Return the ends of the percentile interval of resampled values; undefined ones are omitted."""
    known = samples[np.isfinite(samples)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _interval(name: str, value: float, samples: np.ndarray | None, metrics: WeightedMetrics, level: float) -> Interval:
    if not np.isfinite(value):
        return Interval(None, None, None, why_undefined(name, metrics))
    if samples is None:
        return Interval(value, None, None, "only one patient: no interval")
    undefined = int((~np.isfinite(samples)).sum())
    if undefined > MOST_UNDEFINED * len(samples):
        why = f"undefined in {undefined} of {len(samples)} resamples, too few patients have the grades it needs"
        return Interval(value, None, None, f"no interval: {why}")
    low, high = ends(samples, level)
    if low == high:  # e.g. a recall of 0: resamples cannot tell what other patients would show
        return Interval(value, None, None, "no interval: the value is the same in all resamples")
    return Interval(value, low, high, _word(name, undefined, len(samples), metrics))


def _corrected(interval: Interval, samples: np.ndarray, noise: np.ndarray, level: float) -> Interval:
    """Return the interval of a calibration error, which chance raises in a sample, and again in its resamples.

    The lower end is the upper percentile reflected at the value (the basic bootstrap), or 0 if a calibrated model could
    show an error as large. The upper end is the larger of percentile and reflection. The interval is rather too wide
    than too narrow.
    """
    if interval.value is None or interval.low is None:
        return interval
    low, high = ends(samples, level)
    by_chance = interval.value <= ends(noise, level)[1]
    reflected = max(0.0, 2 * interval.value - high)
    return replace(interval, low=0.0 if by_chance else reflected, high=max(high, 2 * interval.value - low))


def _word(name: str, undefined: int, n_resamples: int, metrics: WeightedMetrics) -> str:
    """Return the note on an interval."""
    words = []
    absent = np.setdiff1d(np.arange(N_GRADES), metrics.knees.grade)
    metric = declared.of(name)
    if len(absent) and metric is not None and metric.mean_over_grades:
        words.append(f"no knee of true grade {', '.join(map(str, absent))}: not in the mean, unless predicted")
    if undefined:
        words.append(f"undefined in {undefined} of {n_resamples} resamples, which are omitted")
    if metrics.knees.n_patients < FEW_PATIENTS:
        words.append(f"only {metrics.knees.n_patients} patients: the interval is too narrow")
    return "; ".join(words)


def why_undefined(name: str, metrics: WeightedMetrics) -> str:
    """Return in a few words why a metric of these knees has no value."""
    grade = metrics.knees.grade
    plain = base(name)
    metric = declared.of(name)
    if metric is not None and metric.of == declared.RANKING:
        first = int(dict(metric.settings)["grade"])
        side = "below" if (grade < first).all() else "at or above"
        return f"all knees are {side} grade {first}: nothing to distinguish"
    if metric is None or metric.undefined or not metric.per_grade:
        return metric.undefined if metric is not None and metric.undefined else "undefined for these knees"
    own = int(plain.rsplit("_", 1)[1])
    return f"no knee of true grade {own}" if not (grade == own).any() else f"grade {own} is never predicted"
