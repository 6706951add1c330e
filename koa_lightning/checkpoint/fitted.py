"""The entries fitted on the validation split and stored in a checkpoint: calibration, conformal quantiles and more.

They are plain values. `koa_lightning.uncertainty` fits and applies them; this module defines and checks them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, ClassVar, Self

from koa_lightning.checkpoint import reference
from koa_lightning.metrics import thresholds as tuned

PARAMETERS: dict[str, tuple[str, ...]] = {
    "none": (),
    "temperature": ("temperature",),
    "ordinal": ("scale", "shift"),
    "bias": ("scale", "bias_1", "bias_2", "bias_3", "bias_4"),
}
"""Methods of recalibration, and the parameters of each."""
METHODS = tuple(PARAMETERS)
LOWEST, HIGHEST = 0.05, 20.0  # of temperature and scale: a split graded without errors would drive them to 0
LARGEST_SHIFT = 10.0
POSITIVE = ("temperature", "scale")
ALPHAS = tuple(step / 100 for step in range(1, 51))
"""Shares of knees whose conformal set may miss the reference grade; one quantile is kept for each."""
EVERYTHING = 1.0  # the quantile that admits every grade
ROWS = 100  # of the stored risk-coverage curve
_MOST_KNEES = 10**9


@dataclass(frozen=True)
class LeftOut:
    """An entry without values, and the reason."""

    reason: str

    def to_plain(self) -> dict[str, Any]:
        """Return the entry as it is stored in a file."""
        return {"left_out": self.reason}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The fields of all entries: the knees that they were fitted on. None in files that do not record them.

    Attributes:
        n_knees: Number of labelled knees.
        n_patients: Number of their patients.
        part: Fingerprint of the split.
    """

    n_knees: int | None = None
    n_patients: int | None = None
    part: str | None = None

    ON_DISK: ClassVar[Mapping[str, str]] = {}  # attribute -> its key in a file, where they differ

    @classmethod
    def from_plain(cls, entry: Mapping[str, Any]) -> Self:
        """Return the entry of a file in which `wrong` finds nothing; keys of later versions are ignored."""
        keys = {each.name: cls.ON_DISK.get(each.name, each.name) for each in fields(cls)}
        return cls(**{name: _frozen(entry[key]) for name, key in keys.items() if key in entry})

    def to_plain(self) -> dict[str, Any]:
        """Return the entry as it is stored in a file: plain values, without those that are None."""
        values = {self.ON_DISK.get(each.name, each.name): getattr(self, each.name) for each in fields(self)}
        return {key: _thawed(value) for key, value in values.items() if value is not None}

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        for key in ("n_knees", "n_patients"):
            value = entry.get(key, 0)
            if type(value) is not int or not 0 <= value <= _MOST_KNEES:
                return f"{key}: must be a whole number from 0 to {_MOST_KNEES}"
        return "" if isinstance(entry.get("part", ""), str) else "part: must be one line of text"


@dataclass(frozen=True, kw_only=True)
class Calibration(Entry):
    """A recalibration of grade probabilities.

    Attributes:
        method: One of `METHODS`.
        parameters: Parameters of the method, by name.
        lost: Why the requested method is not used; None if it is.
        cross_fitted_log_loss: Log loss of each method that existed when this was fitted.
        cross_fitted_recall_1: Recall of grade 1, the hardest, for each of these methods.
    """

    method: str = "none"
    parameters: Mapping[str, float] = field(default_factory=dict)
    lost: str | None = None
    cross_fitted_log_loss: Mapping[str, float] | None = None
    cross_fitted_recall_1: Mapping[str, float] | None = None

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        if entry.get("method") not in METHODS:
            return f"method: must be one of {', '.join(METHODS)}"
        names, values = PARAMETERS[entry["method"]], entry.get("parameters")
        if not isinstance(values, dict) or set(values) != set(names):
            return f"parameters: must be {', '.join(names) or 'empty'}"
        for name, value in values.items():
            low, high = (LOWEST, HIGHEST) if name in POSITIVE else (-LARGEST_SHIFT, LARGEST_SHIFT)
            if not isinstance(value, float) or not low * (1 - math.copysign(1e-6, low)) <= value <= high * (1 + 1e-6):
                return f"parameters.{name}={value!r}: must be a number from {low:g} to {high:g}"
        if not isinstance(entry.get("lost", ""), str):
            return "lost: must be one line of text"
        needed = {"none", entry["method"]}
        for key in ("cross_fitted_log_loss", "cross_fitted_recall_1"):
            found = entry.get(key, dict.fromkeys(needed, 0.0))
            fits = isinstance(found, dict) and needed <= set(found) <= set(METHODS)
            if not fits or not all(isinstance(value, float | int) for value in found.values()):
                return f"{key}: must have a number for each of {', '.join(METHODS)}"
        return super().wrong(entry)


@dataclass(frozen=True, kw_only=True)
class ConformalSets(Entry):
    """The conformal quantiles of prediction sets.

    Attributes:
        quantiles: Quantiles of the reference grades' scores, one for each of `ALPHAS`; in [0, 1], decreasing.
    """

    ON_DISK: ClassVar[Mapping[str, str]] = {"quantiles": "limits"}

    quantiles: tuple[float, ...] = ()

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        limits = entry.get("limits")
        if not isinstance(limits, list) or len(limits) != len(ALPHAS):
            return f"limits: must be {len(ALPHAS)} numbers"
        fits = all(isinstance(value, float) and 0 <= value <= EVERYTHING for value in limits)
        if not fits or any(a < b for a, b in pairwise(limits)):
            return "limits: must be decreasing numbers from 1 to 0"
        return super().wrong(entry)


@dataclass(frozen=True, kw_only=True)
class SelectivePrediction(Entry):
    """The risk-coverage curve, from which a threshold for referral is chosen.

    Attributes:
        curve: Rows of threshold, coverage and risk, at most `ROWS`, the highest threshold first.
    """

    curve: tuple[tuple[float, float, float], ...] = ()

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        rows = entry.get("curve")
        if not isinstance(rows, list) or not rows or len(rows) > ROWS:
            return f"curve: must have 1 to {ROWS} rows"
        for row in rows:
            fits = isinstance(row, list) and len(row) == 3
            if not fits or not all(isinstance(x, float) and 0 <= x <= 1.001 for x in row):
                return "curve: must have rows of threshold, coverage and risk in [0, 1]"
        return super().wrong(entry)


@dataclass(frozen=True, kw_only=True)
class OutOfDistribution(Entry):
    """The out-of-distribution check; its tensors are beside the record, see `koa_lightning.checkpoint.reference`.

    Attributes:
        flagged: Share of the validation split's knees that it flags, cross-fitted, in [0, 1].
    """

    flagged: float = 0.0

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        flagged = entry.get("flagged")
        if not (isinstance(flagged, float) and 0 <= flagged <= 1):
            return "flagged: must be a number from 0 to 1"
        return super().wrong(entry)


@dataclass(frozen=True, kw_only=True)
class Thresholds(Entry):
    """Thresholds on the expected grade, see `koa_lightning.metrics.thresholds`.

    Attributes:
        thresholds: Four, increasing.
        objective: The metric that they were tuned for.
        knees: A hash of the knees that they were tuned on.
        hashes: One hash per patient.
    """

    thresholds: tuple[float, ...] = tuned.ROUNDING
    objective: str | None = None
    knees: str | None = None
    hashes: tuple[str, ...] | None = None

    @classmethod
    def wrong(cls, entry: Mapping[str, Any]) -> str:
        """Return what is wrong with an entry that was read from a file, or an empty string."""
        return tuned.wrong(dict(entry)) or super().wrong(entry)


@dataclass(frozen=True)
class Fitted:
    """All entries; None in a checkpoint that was written before the end of its training."""

    calibration: Calibration | LeftOut | None = None
    conformal: ConformalSets | LeftOut | None = None
    selective_prediction: SelectivePrediction | LeftOut | None = None
    out_of_distribution: OutOfDistribution | LeftOut | None = None
    thresholds: Thresholds | LeftOut | None = None

    @classmethod
    def left_out(cls, reason: str) -> Fitted:
        """Return entries that are all empty for the same reason."""
        return cls(*(LeftOut(reason) for _ in KEYS))

    @classmethod
    def from_plain(cls, record: Mapping[str, Any]) -> Fitted:
        """Return the entries of a record in which `wrong` finds nothing."""
        found = {name: record[key] for name, key in KEYS.items() if key in record}
        entries: dict[str, Any] = {name: _entry(KINDS[name], entry) for name, entry in found.items()}
        return cls(**entries)

    def to_plain(self) -> dict[str, dict[str, Any]]:
        """Return the entries by their keys in a file."""
        entries = {key: getattr(self, name) for name, key in KEYS.items()}
        return {key: entry.to_plain() for key, entry in entries.items() if entry is not None}

    @property
    def method(self) -> str:
        """Return the method of recalibration; `none` if there is no such entry."""
        return self.calibration.method if isinstance(self.calibration, Calibration) else "none"


KINDS: dict[str, type[Entry]] = {
    "calibration": Calibration,
    "conformal": ConformalSets,
    "selective_prediction": SelectivePrediction,
    "out_of_distribution": OutOfDistribution,
    "thresholds": Thresholds,
}
KEYS = {**{name: name for name in KINDS}, "selective_prediction": "abstention", "out_of_distribution": "inputs"}
"""Attribute of `Fitted` -> its key in the record, as named by version 0.1."""


def _entry(kind: type[Entry], entry: Mapping[str, Any]) -> Entry | LeftOut:
    return LeftOut(entry["left_out"]) if "left_out" in entry else kind.from_plain(entry)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return [_thawed(each) for each in value] if isinstance(value, tuple) else value


def wrong(record: Mapping[str, Any], tensors: object) -> str:
    """Return what is wrong with these entries of a checkpoint, or an empty string; all of them are optional.

    Args:
        record: Plain, as in the file.
        tensors: The file's entry `reference.TENSORS`; None if it has none.
    """
    for name, key in KEYS.items():
        if key not in record:
            continue
        entry = record[key]
        if not isinstance(entry, dict):
            return f"{key} is not a dict"
        reason = entry.get("left_out")
        if "left_out" in entry and (not isinstance(reason, str) or not reason or len(entry) > 1):
            return f"{key}.left_out is not a text, or has values beside it"
        if "left_out" not in entry and (misfit := KINDS[name].wrong(entry)):
            return f"{key}.{misfit}"
    if tensors is not None and (misfit := reference.wrong(tensors)):
        return f"{reference.TENSORS}: {misfit}"
    return ""
