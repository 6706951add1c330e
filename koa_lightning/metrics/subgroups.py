"""Metrics with intervals by subgroup: side, site, or any column of the predictions table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.config.compose import nearest
from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import patient_numbers
from koa_lightning.metrics.intervals import LEVEL, N_RESAMPLES, with_intervals

MIN_PATIENTS = 30  # a smaller group gets no metrics
N_BINS = 3  # of a column of numbers
UNKNOWN = "(unknown)"
ALL = "all"
COLUMNS = ["column", "group", "n_knees", "n_patients", "metric", "value", "low", "high", "note"]
_CATEGORIES = 6  # numbers with more different values than this are binned
_MOST_GROUPS = 30


def by_subgroup(
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    edges: Mapping[str, Sequence[float]] | None = None,
    only: Collection[str] | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return metrics with intervals for each group of each column.

    Args:
        table: Predictions, with these columns.
        columns: Columns of text, or of numbers, which are cut at `edges`, by default into thirds.
        edges: Where columns of numbers are cut: name to rising numbers; a group includes its lower edge.
        only: Names of the metrics; None: those declared `by_subgroup`.
        n_resamples: As for `with_intervals`, as are the next three.
        seed: Of the resamples.
        level: Of the intervals.
        thresholds: For the metrics `_tuned`.

    Returns:
        One row per group and metric: column, group, n_knees, n_patients, metric, value, low, high, note; first those of
        all knees (column `all`). In a group with too few patients the values are empty, and `note` says so.

    Raises:
        InputError: There is no such column, edges do not rise, or a column has too many values to form groups.
    """
    edges, only = edges or {}, chosen("by_subgroup") if only is None else only
    check(table, columns, edges)
    labelled = table[table["grade"].notna()].reset_index(drop=True)
    rows: list[dict[str, Any]] = []
    groups = {ALL: pd.Series("all knees", index=labelled.index)}
    groups |= {name: group_of(labelled[name], edges.get(name)) for name in columns}
    for column, group in groups.items():
        for name in _in_order(group):
            own = labelled[group == name]
            _, n_patients = patient_numbers(own)
            head = {"column": column, "group": name, "n_knees": len(own), "n_patients": n_patients}
            if n_patients < MIN_PATIENTS:
                note = f"too small to evaluate: {n_patients} patients, at least {MIN_PATIENTS} are needed"
                rows += [{**head, "metric": metric, "note": note} for metric in only]
                continue
            found = with_intervals(
                own, n_resamples=n_resamples, seed=seed, level=level, thresholds=thresholds, only=only
            )
            rows += [{**head, "metric": metric, **asdict(each)} for metric, each in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def check(table: pd.DataFrame, columns: Sequence[str], edges: Mapping[str, Sequence[float]]) -> None:
    """Stop if a subgroup cannot be formed.

    Raises:
        InputError: There is no such column, edges do not rise or belong to no column, or a column has too many values.
    """
    for name in [*columns, *edges]:
        if name not in table:
            have = ", ".join(map(str, table.columns))
            raise InputError(f"subgroups={name}: no such column{nearest(name, list(table.columns))} (there are {have})")
    for name, cuts in edges.items():
        if name not in columns:
            raise InputError(f"edges.{name}: name it in subgroups too: subgroups=[{','.join([*columns, name])}]")
        if not is_numeric(table[name]) or not len(cuts) or (np.diff(np.asarray(cuts, dtype=float)) <= 0).any():
            raise InputError(f"edges.{name}={list(cuts)}: must be rising numbers, for a column of numbers")
    for name in columns:
        n = table[name].nunique()
        if not is_numeric(table[name]) and n > _MOST_GROUPS:
            raise InputError(f"subgroups={name}: has {n} different values, too many for groups; give one with fewer")


def is_numeric(column: pd.Series) -> bool:
    """Return whether a column holds numbers."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def group_of(column: pd.Series, edges: Sequence[float] | None = None) -> pd.Series:
    """Return the name of each row's group: its value, or the range of numbers that it is in."""
    if not is_numeric(column) or (edges is None and column.nunique() <= _CATEGORIES):
        text = column.astype("str").where(column.notna(), "").str.strip()
        if is_numeric(column):
            text = text.str.removesuffix(".0")
        return text.where(text != "", UNKNOWN)
    numbers = column.astype("float64")
    cuts = np.asarray(edges, dtype=float) if edges is not None else _quantiles(numbers)
    names = _ranges(cuts)
    found = np.array(names, dtype=object)[np.searchsorted(cuts, numbers.to_numpy(), side="right").clip(0, len(cuts))]
    return pd.Series(found, index=column.index).where(numbers.notna(), UNKNOWN)


def _quantiles(numbers: pd.Series) -> np.ndarray:
    cuts = np.unique(numbers.quantile(np.arange(1, N_BINS) / N_BINS, interpolation="higher").to_numpy())
    return cuts[cuts > numbers.min()]


def _ranges(cuts: np.ndarray) -> list[str]:
    written = ([f"{cut:.{digits}g}" for cut in cuts] for digits in (6, 9, 12, 17))
    shown = next(names for names in written if len(set(names)) == len(cuts))  # dates may differ in their last digits
    if not shown:
        return ["all numbers"]
    middle = [f"{low} to < {high}" for low, high in pairwise(shown)]
    return [f"< {shown[0]}", *middle, f">= {shown[-1]}"]


def _in_order(group: pd.Series) -> list[str]:
    """Return the groups, ranges and numbers in rising order, the unknown last."""

    def rank(name: str) -> tuple[bool, bool, float, str]:
        number = pd.to_numeric(name.removeprefix("< ").removeprefix(">= ").split(" to ")[0], errors="coerce")
        return name == UNKNOWN, not name.startswith("< "), float(np.nan_to_num(number)), name

    return sorted(group.unique(), key=rank)
