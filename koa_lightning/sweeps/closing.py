"""Print a sweep: one line per trial, and at the end the table, the best trials and the failed ones."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from koa_lightning.config.overrides import short_names
from koa_lightning.reporting import terminal
from koa_lightning.sweeps.study import ended

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_MOST_ROWS = 10
_LOG_WIDTH = 160  # characters, in a log or pipe; the default of 80 would cut the names of metrics
_WORDS = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


def number(value: float | None) -> str:
    """Return a number with four significant digits."""
    return "" if value is None else f"{value:.4g}"


def short(value: Any) -> str:
    """Return a value of a parameter, numbers with three significant digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return a duration, e.g. `1 h 04 min`, `3 min 05 s` or `12.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def trial_line(study: Study, trial: FrozenTrial, total: int) -> str:
    """Return the line of a trial that has ended."""
    done = len(ended(study))
    names = study.user_attrs["koa_metrics"]
    called = short_names(list(trial.params))
    params = "  ".join(f"{called[key]}={short(value)}" for key, value in trial.params.items())
    if trial.state.name == "COMPLETE":
        said = "  ".join(f"{name} {number(value)}" for name, value in zip(names, trial.values, strict=True))
    elif trial.state.name == "PRUNED":
        last = max(trial.intermediate_values, default=None)
        said = "pruned" if last is None else f"pruned after step {last} at {number(trial.intermediate_values[last])}"
    else:
        said = f"failed, {trial.user_attrs.get('error_kind')}: {trial.user_attrs.get('error')}"
    return f"trial {trial.number} ({done}/{total}): {said}  [{params}]  {duration(trial.user_attrs.get('seconds', 0))}"


def counts(study: Study) -> dict[str, int]:
    """Return how many trials are complete, pruned, failed, and interrupted."""
    found = Counter(_WORDS[trial.state.name] for trial in ended(study))
    found["interrupted"] = sum(bool(trial.user_attrs.get("interrupted")) for trial in study.get_trials(deepcopy=False))
    return {word: found[word] for word in (*_WORDS.values(), "interrupted") if found[word]}


def best(study: Study) -> list[FrozenTrial]:
    """Return the best trial, or those on the Pareto front, best of the first metric first."""
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1
    front = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    return front if len(study.directions) > 1 else front[:1]


def show(study: Study, total: int, program: str) -> None:
    """Print the table, the best trials as command lines, and the failed trials.

    Args:
        study: Study of the sweep.
        total: The number of trials requested.
        program: The command that starts a single job, e.g. `python -m koa_lightning.train`.
    """
    found = counts(study)
    words = ", ".join(f"{n} {word}" + " (repeated)" * (word == "interrupted") for word, n in found.items())
    seconds = sum(trial.user_attrs.get("seconds", 0.0) for trial in ended(study))
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _LOG_WIDTH)
    said = f"{words or 'no trial yet'}; {duration(seconds)} of computing"
    terminal.show(console, lambda _: _table(study), [], f"sweep {study.study_name}: {said}")
    caveats = dict.fromkeys(caveat for trial in ended(study) for caveat in trial.user_attrs.get("marks") or [])
    if caveats:
        console.print(f"[bold red]{', '.join(caveats)}[/]")
    for trial in ended(study):
        if trial.state.name == "FAIL":
            print(f"trial {trial.number} failed, {trial.user_attrs.get('error_kind')}: {trial.user_attrs.get('error')}")
    front = best(study)
    if len(study.directions) > 1 and front:
        print(f"Pareto front: trial {', '.join(str(trial.number) for trial in front)} (none is better in all metrics)")
    for trial in front:
        values = ", ".join(f"{n} {number(v)}" for n, v in zip(_names(study), trial.values, strict=True))
        print(f"best: trial {trial.number}, {values}\n  {program} {shlex.join(trial.user_attrs['overrides'])}")
    if not front:
        print("no trial is complete")
    if sum(n for word, n in found.items() if word != "interrupted") < total:
        print(f"resume with: {study.user_attrs['koa_command']}")


def show_grid(
    rows: Sequence[tuple[int, float | None, Sequence[str]]], varied: Sequence[str], monitor: str, best_is_highest: bool
) -> None:
    """Print the table of a grid without a study, best first.

    Args:
        rows: The number of each job, its metric (None if it has none) and its values of the varied keys.
        varied: The keys that vary.
        monitor: The name of the metric.
        best_is_highest: Whether the highest value is the best, rather than the lowest.
    """
    sign = -1 if best_is_highest else 1
    table = Table(title=f"grid of {len(rows)} jobs")
    for name in ("job", monitor or "metric", *short_names(varied).values()):
        table.add_column(name, justify="right" if name in ("job", monitor) else "left")
    for job, value, values in sorted(rows, key=lambda row: (row[1] is None, sign * (row[1] or 0.0), row[0])):
        table.add_row(str(job), number(value) if value is not None else "no result", *values)
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _LOG_WIDTH)
    console.print(table)


def _names(study: Study) -> list[str]:
    return [str(name) for name in study.user_attrs["koa_metrics"]]


def _table(study: Study) -> Table:
    front = {trial.number for trial in best(study)}
    rows = _ranked(study, front)
    keys = list(study.user_attrs["koa_space"])
    called = short_names(keys)
    repeated = any(len(trial.user_attrs.get("values") or []) > 1 for trial in rows)
    table = Table(caption=f"the {_MOST_ROWS} best" if len(ended(study)) > len(rows) else None)
    for name in ("trial", *_names(study), *(["sd"] if repeated else []), "time", *called.values()):
        table.add_column(name, justify="left" if name in called.values() else "right")
    for trial in rows:
        values = [number(v) for v in trial.values] if trial.state.name == "COMPLETE" else [_WORDS[trial.state.name]]
        values += [""] * (len(_names(study)) - len(values))
        spread = [_spread(trial.user_attrs.get("values") or [])] if repeated else []
        params = [short(trial.params.get(key, "")) for key in keys]
        time = duration(trial.user_attrs.get("seconds", 0.0))
        star = "*" if len(front) > 1 and trial.number in front else ""
        style = "bold" if trial.number in front else None
        table.add_row(f"{trial.number}{star}", *values, *spread, time, *params, style=style)
    return table


def _ranked(study: Study, front: set[int]) -> list[FrozenTrial]:
    """Return the trials of the table: the front, then the best, then the pruned trials that got furthest."""
    sign = -1 if study.directions[0].name == "MAXIMIZE" else 1
    states = list(_WORDS)

    def place(trial: FrozenTrial) -> tuple[Any, ...]:
        steps = max(trial.intermediate_values, default=-1)
        value = sign * trial.values[0] if trial.state.name == "COMPLETE" else 0.0
        return (trial.number not in front, states.index(trial.state.name), value, -steps, trial.number)

    return sorted(ended(study), key=place)[:_MOST_ROWS]


def _spread(values: Sequence[Any]) -> str:
    """Return the standard deviation between repeats (sample), of the first metric."""
    first = [value[0] if isinstance(value, list) else value for value in values]
    return number(statistics.stdev(first)) if len(first) > 1 else ""
