"""Two models on the same knees: paired differences with intervals, and a permutation test, both by patient."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.config.metrics import chosen
from koa_lightning.data.user_tables import comparable
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import of_table, stack
from koa_lightning.metrics.intervals import LEVEL, MOST_UNDEFINED, N_RESAMPLES, ends, why_undefined
from koa_lightning.metrics.resampling import block_size, bootstrap_weights, gather
from koa_lightning.metrics.weighted import WeightedMetrics

_EPS = 1e-12  # between differences that are equal up to rounding


@dataclass(frozen=True)
class Difference:
    """A metric of two models on the same knees.

    Attributes:
        first: Its value for the first model; None where undefined, and `note` says why.
        second: For the second.
        difference: First minus second.
        low: Lower end of the difference's interval.
        high: Upper end.
        p: Two-sided, of the permutation test: how often identical models differ as much.
        p_holm: The same, adjusted for the number of metrics compared (Holm 1979).
        note: A remark, or empty.
    """

    first: float | None
    second: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    note: str = ""


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    only: Collection[str] | None = None,
) -> dict[str, Difference]:
    """Compare two models by their predictions of the same knees, row by row; see `match`.

    The interval is by bootstrap over patients. Each permutation of the test swaps the two models' predictions for a
    random half of the patients.

    Args:
        first: Predictions of one model.
        second: Predictions of the other, in the same order.
        n_resamples: Number of bootstrap resamples, and of permutations.
        seed: Of both.
        level: Of the intervals.
        only: Names of the metrics; None: those declared `compared`.

    Returns:
        Name to difference, in the order of `only`.

    Raises:
        InputError: No labelled knee.
    """
    only = chosen("compared") if only is None else only
    one, other = of_table(first), of_table(second)
    both = stack(one, replace(other, patient=one.patient, n_patients=one.n_patients))
    metrics = WeightedMetrics(both, only=only)
    n, block = one.n_patients, block_size(2 * len(both.grade))
    ones, nothing = np.ones((1, n)), np.zeros((1, n))
    values = [metrics(np.hstack(weights)) for weights in ((ones, nothing), (nothing, ones))]
    drawn, swapped = dict[str, np.ndarray](), dict[str, np.ndarray]()
    if n > 1:
        drawn = gather(bootstrap_weights(n, n_resamples, seed, block), _between(metrics, _side_by_side))
        swapped = gather(_coins(n, n_resamples, seed, block), _between(metrics, _exchanged))
    sides = [WeightedMetrics(each, only=only) for each in (one, other)]
    found = {
        name: _difference(name, (float(values[0][name][0]), float(values[1][name][0])), drawn, swapped, level, sides)
        for name in only
    }
    adjusted = holm({name: each.p for name, each in found.items() if each.p is not None})
    return {name: replace(each, p_holm=adjusted.get(name)) for name, each in found.items()}


def to_table(differences: dict[str, Difference]) -> pd.DataFrame:
    """Return the differences as a table: one row per metric."""
    return pd.DataFrame([{"metric": name, **asdict(each)} for name, each in differences.items()])


def to_json(differences: dict[str, Difference]) -> dict[str, dict[str, Any]]:
    """Return the differences as plain values."""
    return {name: asdict(each) for name, each in differences.items()}


def holm(p: dict[str, float]) -> dict[str, float]:
    """Return p values adjusted for their number (Holm 1979)."""
    adjusted, so_far = {}, 0.0
    for i, name in enumerate(sorted(p, key=lambda each: p[each])):
        so_far = max(so_far, min(1.0, (len(p) - i) * p[name]))
        adjusted[name] = so_far
    return adjusted


def match(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return two tables of the same knees in the same order.

    Knees are matched by path, by the end of the path if folders were moved, or by patient and side.

    Args:
        first: A table from `tables.read_predictions`.
        second: Another such table.
        names: The tables' names, for messages.

    Raises:
        InputError: The tables are not of the same knees, or their reference grades or patients differ.
    """
    own, other, key = max(_keys(first, second), key=lambda pair: len(set(pair[0]) & set(pair[1])), default=([], [], ""))
    here, there = set(own), set(other)
    if not own or here != there:
        raise InputError(f"{names[0]} and {names[1]} are not of the same knees: {_unmatched(own, other, names, key)}")
    row = {name: i for i, name in enumerate(other)}
    second = second.iloc[[row[name] for name in own]].reset_index(drop=True)
    first = first.reset_index(drop=True)
    for column in ("grade", "patient"):
        a, b = first[column], second[column]
        differs = (
            (a != b).fillna(False) | (a.isna() != b.isna()) if column == "grade" else (a != b) & (a != "") & (b != "")
        )
        if differs.any():
            i = int(np.argmax(differs))
            raise InputError(
                f"{names[0]} and {names[1]}: {column} of {own[i]} is {a[i]} in one and {b[i]} in the other "
                f"({int(differs.sum())} such knees); compare predictions of the same reference grades"
            )
    first["patient"] = second["patient"] = first["patient"].where(first["patient"] != "", second["patient"])
    return first, second


def _keys(first: pd.DataFrame, second: pd.DataFrame) -> Iterator[tuple[list[str], list[str], str]]:
    """Yield names of the knees in both tables, the strictest kind first, if they identify each knee."""
    ways: dict[str, Callable[[pd.DataFrame], list[str]]] = {
        "path": lambda rows: [comparable(path) for path in rows["path"] if path],
        "end of the path": lambda rows: ["/".join(Path(comparable(path)).parts[-3:]) for path in rows["path"] if path],
        "file name": lambda rows: [Path(comparable(path)).name for path in rows["path"] if path],
        "patient and side": lambda rows: [
            f"{patient} {side}" for patient, side in zip(rows["patient"], rows["side"], strict=True) if patient and side
        ],
    }
    for name, way in ways.items():
        own, other = way(first), way(second)
        if len(set(own)) == len(first) and len(set(other)) == len(second):
            yield own, other, name


def _unmatched(own: list[str], other: list[str], names: tuple[str, str], key: str) -> str:
    if not own:
        return "neither path nor patient and side identify every knee in both; add a column path"
    parts = []
    for name, left in (
        (names[0], [x for x in own if x not in set(other)]),
        (names[1], [x for x in other if x not in set(own)]),
    ):
        if left:
            parts.append(f"{len(left)} only in {name} (e.g. {left[0]})")
    return f"by {key}, {' and '.join(parts)}; give predictions of the same split"


def _coins(n_patients: int, n: int, seed: int, block: int) -> Iterator[np.ndarray]:
    """Yield which patients keep their model's predictions (1) or get the other's (0), float64 b x n_patients."""
    rng = np.random.default_rng((seed, 1))
    for start in range(0, n, block):
        yield (rng.random((min(block, n - start), n_patients)) < 0.5).astype(np.float64)


def _side_by_side(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    none = np.zeros_like(weights)
    return np.hstack([weights, none]), np.hstack([none, weights])


def _exchanged(kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.hstack([kept, 1 - kept]), np.hstack([1 - kept, kept])


def _between(
    metrics: WeightedMetrics, sides: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function from patients' weights to each metric's difference between the two models."""

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        first, second = (metrics(side) for side in sides(weights))
        return {name: first[name] - second[name] for name in first}

    return differences


def _difference(
    name: str,
    values: tuple[float, float],
    drawn: dict[str, np.ndarray],
    swapped: dict[str, np.ndarray],
    level: float,
    sides: list[WeightedMetrics],
) -> Difference:
    first, second = (value if np.isfinite(value) else None for value in values)
    if first is None or second is None:
        return Difference(first, second, None, note=why_undefined(name, sides[0] if first is None else sides[1]))
    difference = first - second
    if not drawn:
        return Difference(first, second, difference, note="only one patient: no interval and no test")
    undefined = float((~np.isfinite(drawn[name])).mean())
    if undefined > MOST_UNDEFINED:
        note = f"no interval: undefined in {undefined:.0%} of the resamples, too few patients have the grades it needs"
        return Difference(first, second, difference, note=note)
    low, high = ends(drawn[name], level)
    known = swapped[name][np.isfinite(swapped[name])]
    p = (1 + int((np.abs(known) >= abs(difference) - _EPS).sum())) / (1 + len(known))
    return Difference(first, second, difference, low, high, p)
