"""The results of a sweep: a study of Optuna as plain tables, best trial first."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

STATES = ("complete", "pruned", "running", "waiting", "interrupted", "failed")
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class Sweep:
    """The trials of a study.

    Attributes:
        study: Optuna's study itself.
        metrics: The names of the objectives.
        modes: "max" or "min" of each.
        trials: One row per trial, by number: state (one of STATES), a column per metric (the value that decided;
            NaN unless complete), the spread over its repeats as "sd METRIC" (sample standard deviation; NaN for one
            repeat), `last` (the last value it reported), repeats, duration (seconds), error_kind, error.
        params: One row per trial, one column per key; None if the trial did not use the key.
        kinds: "log", "linear" or "choice" of each key.
        levels: The choices of each key of kind "choice".
        attrs: Optuna's user attributes of each trial, written by the sweeper.
        curves: The values that a trial reported, by epoch; trials without any are omitted.
        ranking: Trial numbers, best first.
        front: The best trial, or those on the Pareto front of several objectives; best of the first metric first.
        caveats: Limits of its results, e.g. "phantom data".
    """

    study: Study
    metrics: list[str]
    modes: list[str]
    trials: pd.DataFrame
    params: pd.DataFrame
    kinds: dict[str, str]
    levels: dict[str, list[Any]]
    attrs: dict[int, dict[str, Any]]
    curves: dict[int, pd.Series]
    ranking: list[int]
    front: list[int]
    caveats: list[str]

    @property
    def name(self) -> str:
        """The name of the study."""
        return str(self.study.study_name)

    @property
    def varied(self) -> list[str]:
        """The keys that differ between trials."""
        return [str(key) for key in self.params if len(set(map(repr, self.params[key]))) > 1]

    @property
    def constant(self) -> dict[str, Any]:
        """The keys that were the same in all trials, with their value."""
        return {str(key): self.params[key].iloc[0] for key in self.params if key not in self.varied}

    @property
    def complete(self) -> pd.DataFrame:
        """The rows of `trials` that are complete."""
        return self.trials[self.trials["state"] == "complete"]

    def counts(self) -> dict[str, int]:
        """Return how many trials are in each state; states without any are omitted."""
        found = Counter(self.trials["state"])
        return {state: found[state] for state in STATES if found[state]}


def read(study: Study) -> Sweep:
    """Read a study; facts that the sweeper did not record (a study made by hand) are left empty."""
    trials = study.trials
    modes = [{"MAXIMIZE": "max"}.get(direction.name, "min") for direction in study.directions]
    metrics = _metrics(study, len(modes))
    distributions = {key: one for trial in trials for key, one in trial.distributions.items()}
    typed = study.user_attrs.get("koa_space") or {}
    keys = [*(key for key in typed if key in distributions), *(key for key in distributions if key not in typed)]
    numbers = pd.Index([trial.number for trial in trials], name="trial")
    rows = [_row(trial, metrics) for trial in trials]
    table = pd.DataFrame(rows, index=numbers, columns=_columns(metrics))
    params = {key: pd.Series([t.params.get(key) for t in trials], numbers, dtype=object) for key in keys}
    order = _order(table, metrics[0], modes[0])
    front = sorted((trial.number for trial in study.best_trials), key=order)
    return Sweep(
        study=study,
        metrics=metrics,
        modes=modes,
        trials=table,
        params=pd.DataFrame(params, index=numbers, columns=keys),
        kinds={key: _kind(distributions[key]) for key in keys},
        levels={key: list(getattr(distributions[key], "choices", ())) for key in keys},
        attrs={t.number: dict(t.user_attrs) for t in trials},
        curves={t.number: _curve(t) for t in trials if t.intermediate_values},
        ranking=_ranking(table, order, front if len(modes) > 1 else []),
        front=front if len(modes) > 1 else front[:1],  # the first of equal trials
        caveats=list(dict.fromkeys(caveat for trial in trials for caveat in trial.user_attrs.get("marks") or [])),
    )


def show(value: Any) -> str:
    """Return a value as one would type it, numbers with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _metrics(study: Study, n: int) -> list[str]:
    named = [str(name) for name in study.user_attrs.get("koa_metrics") or study.metric_names or []]
    return named if len(named) == n else ["value"] if n == 1 else [f"value {i}" for i in range(n)]


def _columns(metrics: list[str]) -> list[str]:
    values = [column for metric in metrics for column in (metric, f"sd {metric}")]
    return ["state", *values, "last", "repeats", "duration", "error_kind", "error"]


def _row(trial: FrozenTrial, metrics: list[str]) -> dict[str, Any]:
    attrs = trial.user_attrs
    state = "interrupted" if attrs.get("interrupted") and trial.state.name == "FAIL" else _STATES[trial.state.name]
    values = trial.values if state == "complete" else [np.nan] * len(metrics)  # noqa: PD011
    repeats = np.asarray(attrs.get("values") or [], dtype=float).reshape(-1, len(metrics))
    spread = repeats.std(axis=0, ddof=1) if len(repeats) > 1 else [np.nan] * len(metrics)
    reported = trial.intermediate_values
    ended = trial.duration.total_seconds() if trial.duration else np.nan
    return {
        "state": state,
        **dict(zip(metrics, values, strict=True)),
        **{f"sd {metric}": sd for metric, sd in zip(metrics, spread, strict=True)},
        "last": reported[max(reported)] if reported else np.nan,
        "repeats": len(repeats),
        "duration": attrs.get("seconds", ended),
        "error_kind": attrs.get("error_kind") or "",
        "error": attrs.get("error") or "",
    }


def _kind(distribution: Any) -> str:
    if hasattr(distribution, "choices"):
        return "choice"
    return "log" if distribution.log else "linear"


def _curve(trial: FrozenTrial) -> pd.Series:
    return pd.Series(trial.intermediate_values, dtype=float).sort_index()


def _order(table: pd.DataFrame, metric: str, mode: str) -> Callable[[int], tuple[float, int]]:
    """Return the sort key of trial numbers: best first, those without a value last, equal ones by number."""
    values = table[metric].where(table["state"] == "complete", table["last"]) * (-1 if mode == "max" else 1)
    known = values.fillna(np.inf).to_dict()
    return lambda number: (float(known[number]), number)


def _ranking(table: pd.DataFrame, order: Callable[[int], Any], front: list[int]) -> list[int]:
    """Return the trial numbers: the front, the other complete ones, then by state; each group best first."""
    states = table["state"].to_dict()
    return sorted(
        table.index.tolist(), key=lambda number: (number not in front, STATES.index(states[number]), order(number))
    )


def table(sweep: Sweep) -> pd.DataFrame:
    """Return the table of trials.csv: one row per trial, best first, with its keys, overrides and MLflow runs."""
    rows = sweep.trials.join(sweep.params).loc[sweep.ranking]
    attrs = [sweep.attrs[number] for number in sweep.ranking]
    rows.insert(1, "best", rows.index.isin(sweep.front))
    rows["values"] = [json.dumps(each.get("values") or []) for each in attrs]
    rows["overrides"] = [shlex.join(each.get("overrides") or []) for each in attrs]
    rows["run_ids"] = [" ".join(each.get("run_ids") or []) for each in attrs]
    return rows.drop(columns=[f"sd {m}" for m in sweep.metrics if rows[f"sd {m}"].isna().all()])
