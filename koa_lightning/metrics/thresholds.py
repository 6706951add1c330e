"""Thresholds on the expected grade, tuned on the validation split alone: the suffix `_tuned`.

Four rising numbers; a knee's grade is how many of them its expected grade reaches, so 0.5, 1.5, 2.5, 3.5 round it.
They are plain values, `{"thresholds": [...], "objective": ..., ...}`, for a JSON file or a checkpoint's record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from koa_lightning.config import metrics as declared
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import of_table
from koa_lightning.metrics.tables import read_predictions
from koa_lightning.metrics.weighted import function, of_grades
from koa_lightning.models.outputs import N_GRADES

ROUNDING = (0.5, 1.5, 2.5, 3.5)
OBJECTIVE = "quadratic_kappa"
_GAIN = 1e-9  # smaller gains are rounding errors


def tune(table: pd.DataFrame, objective: str = OBJECTIVE) -> dict[str, Any]:
    """Find the thresholds that are best on a validation split.

    Each threshold in turn moves to the best place between its neighbours, until none moves. The search starts twice,
    from rounding and from the places that give each grade its true share, and the better result counts. On this split
    it is never worse than rounding.

    Args:
        table: Predictions of the validation split.
        objective: A metric of grades, one of `weighted.of_grades()`.

    Returns:
        `thresholds` (four), `objective`, `n_knees`, `n_patients`, and two identifiers of the knees, so that none is
        evaluated with thresholds tuned on it: `knees`, a hash of all, and `hashes`, see `hashes_of`.

    Raises:
        InputError: No labelled knee, or no such objective.
    """
    if objective not in of_grades():
        raise InputError(f"objective={objective}: must be one of {', '.join(of_grades())}")
    knees = of_table(table)
    order = np.argsort(knees.expected, kind="stable")
    expected, grade = knees.expected[order].astype(np.float64), knees.grade[order]
    below = np.vstack([np.zeros(N_GRADES), np.eye(N_GRADES)[grade].cumsum(0)])  # true grades of the first i knees
    steps = np.flatnonzero(np.append(np.diff(expected) > 0, True)) + 1  # a threshold may lie after so many knees
    steps = np.insert(steps, 0, 0)
    shares = np.cumsum(np.bincount(grade, minlength=N_GRADES))[:-1]
    starts = [np.searchsorted(expected, ROUNDING), shares]
    ends = [_climb(steps[np.abs(steps[:, None] - start).argmin(0)], below, steps, objective) for start in starts]
    best = max(ends, key=lambda cuts: _score(cuts[None], below, objective)[0])  # on a tie, the one from rounding
    places = [_between(expected, cut, default) for cut, default in zip(best, ROUNDING, strict=True)]
    return {
        "thresholds": np.maximum.accumulate(places).tolist(),
        "objective": objective,
        "n_knees": len(grade),
        "n_patients": knees.n_patients,
        "knees": name_of_knees(table),
        "hashes": sorted(hashes_of(table)),
    }


def check(thresholds: Any, where: str = "thresholds") -> list[float]:
    """Return thresholds as a list of four rising numbers.

    Raises:
        InputError: They are anything else.
    """
    try:
        numbers = np.asarray(thresholds, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.array([])
    if numbers.shape != (N_GRADES - 1,) or not np.isfinite(numbers).all() or (np.diff(numbers) < 0).any():
        raise InputError(f"{where}: must be four rising numbers, e.g. {list(ROUNDING)}; tune them on validation")
    return [float(number) for number in numbers]


def wrong(entry: dict[str, Any]) -> str:
    """Return what is wrong with a checkpoint's entry, or an empty string."""
    try:
        check(entry.get("thresholds"))
    except InputError:
        return "thresholds are not four rising numbers"
    return ""


def read(file: str | Path, evaluated: pd.DataFrame) -> dict[str, Any]:
    """Read what `tune` found from a JSON file, or tune on a predictions table of the validation split.

    Args:
        file: `thresholds.json`, or a predictions table, or the folder of its `eval`.
        evaluated: The table that the thresholds are for.

    Raises:
        InputError: The file is neither, or was tuned on knees or patients of the evaluated table.
    """
    path = user_path(file)
    where = f"thresholds={file}"
    if path.is_dir() and (path / "thresholds.json").is_file():
        path = path / "thresholds.json"
    if path.suffix.lower() != ".json":
        own = read_predictions(path, where=where)
        shared = sorted(
            {name for name in own["patient"] if name} & {str(name) for name in evaluated.get("patient", [])}
        )
        if shared:
            raise InputError(
                f"{where}: patient {shared[0]} and {len(shared) - 1} more are in the evaluated table too; "
                "tune on the validation split, evaluate on another"
            )
        found = tune(own)
    else:
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError, RecursionError):
            raise InputError(f"{where}: not a readable JSON file; eval split=val writes thresholds.json") from None
        if not isinstance(found, dict):
            found = {"thresholds": found}
        found["thresholds"] = check(found.get("thresholds"), where)
    if why := tuned_on(found, evaluated):
        raise InputError(f"{where}: tuned on {why}; tune on the validation split, evaluate on another")
    return found


def tuned_on(entry: Mapping[str, Any], evaluated: pd.DataFrame) -> str:
    """Return in words which of the evaluated knees the thresholds were tuned on; empty if none is known.

    Args:
        entry: From `tune`; without `hashes`, as in older versions, only the whole set of knees is recognised.
        evaluated: The table that the thresholds are for.
    """
    if entry.get("knees") == name_of_knees(evaluated):
        return "the evaluated knees"
    tuned = entry.get("hashes")
    shared = hashes_of(evaluated) & {each for each in tuned if isinstance(each, str)} if isinstance(tuned, list) else ()
    return f"{len(shared)} of the evaluated patients (knees, where no patient is known)" if shared else ""


def hashes_of(table: pd.DataFrame) -> set[str]:
    """Return 12 hex digits for each patient, or each path where no patient is known, of the labelled knees.

    The whole path counts: without patients, files of one name in two folders are usually different knees.
    """
    labelled = table[table["grade"].notna()]
    patients, paths = (
        labelled[name].fillna("").astype("str").str.strip() if name in labelled else pd.Series("", labelled.index)
        for name in ("patient", "path")
    )
    names = ("patient " + patients).where(patients != "", "path " + paths)[(patients != "") | (paths != "")]
    return {hashlib.blake2b(name.encode(), digest_size=6).hexdigest() for name in names.unique()}


def name_of_knees(table: pd.DataFrame) -> str:
    """Return 16 hex digits that identify the knees of a table by patient, side, grade and file name."""
    columns = [table[name].astype("str").to_numpy() for name in ("patient", "side", "grade") if name in table]
    if "path" in table:
        columns.append(np.array([Path(str(path)).name for path in table["path"]]))
    lines = sorted(",".join(map(str, row)) for row in zip(*columns, strict=True))
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _climb(cuts: np.ndarray, below: np.ndarray, steps: np.ndarray, objective: str) -> np.ndarray:
    cuts = cuts.copy()
    best = _score(cuts[None], below, objective)[0]
    moved = True
    while moved:
        moved = False
        for i in range(len(cuts)):
            low = cuts[i - 1] if i else 0
            high = cuts[i + 1] if i + 1 < len(cuts) else len(below) - 1
            places = steps[(steps >= low) & (steps <= high)]
            tried = np.repeat(cuts[None], len(places), axis=0)
            tried[:, i] = places
            scores = _score(tried, below, objective)
            if scores.max() > best + _GAIN:
                best, cuts[i], moved = scores.max(), places[scores.argmax()], True
    return cuts


def _score(cuts: np.ndarray, below: np.ndarray, objective: str) -> np.ndarray:
    """Return the objective (higher is better) of cuts B x 4 into the sorted knees; undefined ones are the worst."""
    ends = np.pad(cuts, ((0, 0), (1, 1)), constant_values=(0, len(below) - 1))
    confusion = np.diff(below[ends], axis=1).transpose(0, 2, 1)  # rows reference
    metric = next(each for each in declared.declared() if each.name == objective)
    values = function(metric)(torch.from_numpy(np.ascontiguousarray(confusion))).numpy()
    return np.nan_to_num(-values if metric.best == "min" else values, nan=-np.inf)


def _between(expected: np.ndarray, cut: int, default: float) -> float:
    """Return a threshold between the knees before `cut` and the rest: the default if it fits, else the gap's middle."""
    low = expected[cut - 1] if cut > 0 else -np.inf
    high = expected[cut] if cut < len(expected) else np.inf
    if low < default <= high:
        return default
    if not np.isfinite(high):
        return float(max(N_GRADES - 1, np.nextafter(low, np.inf)))
    return float(high if not np.isfinite(low) else (low + high) / 2)
