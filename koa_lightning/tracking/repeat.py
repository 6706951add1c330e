"""Repeat a run: the command that made it, what has changed since, and whether the results agree."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from koa_lightning.config import overrides, recorded_overrides, run_folder, trial
from koa_lightning.errors import InputError
from koa_lightning.tracking import differences
from koa_lightning.tracking.begin import COMMAND_TAG, TRAIN
from koa_lightning.tracking.entries import RESUMED, flatten
from koa_lightning.tracking.runs import ADVICE
from koa_lightning.tracking.store import failing_as_input_error
from koa_lightning.tracking.system import SYSTEM_PREFIX

# Settings of where the old run was written; the new run does not belong to its sweep.
_OWN = {
    "out",
    "ckpt",
    "quiet",
    "tracking.parent",
    "tracking.run_name",
    "tracking.uri",
    "tracking.enabled",
    "tracking.tags.reproduces",
}
_BEST = "best/"
# Facts of a run that are compared; the rest of its tags follows from these.
_COMPARED = ("data.fingerprint", "split", "git.", "version.", "machine.")


class Comparison(NamedTuple):
    """How the values of two runs compare.

    Attributes:
        rows: (name, old, new) of the metrics of the best epoch.
        n_values: Number of values, of all metrics in all epochs.
        n_differing: How many of these differ; an epoch that only one run has counts as different.
        largest: The largest difference, and its metric and epoch; empty text if there is none.
    """

    rows: list[tuple[str, float, float]]
    n_values: int
    n_differing: int
    largest: tuple[float, str]


def overrides_of(run: Run, more: Sequence[str] = ()) -> list[str]:
    """Return the overrides of a run, without those of where it was written.

    Args:
        run: The run, from the store.
        more: Overrides that the user types now in addition; these may name code.

    Raises:
        InputError: It was not started from a command line, or its command names code to run.
    """
    words = _words(run)
    items = words[len(TRAIN) :] if tuple(words[: len(TRAIN)]) == TRAIN else None
    if items is None and "out" in run.data.params:  # a version that did not store the command
        folder = Path(run.data.params["out"])
        items = run_folder.recorded(folder) if _made(folder, run.info.run_id) else None
    if items is None:
        raise InputError(
            f"run={run.info.run_id}: holds no command of koa_lightning.train (the children of a sweep "
            "or a cross-validation do; a run started from Python does not); its settings are in its config.yaml"
        )
    kept = [item for item in items if _is_of_the_run(overrides.key(item)) and not overrides.names_store(item)]
    if why := recorded_overrides.why_not(kept, more):
        raise InputError(
            f"run={run.info.run_id}: its command names code to run, or a setting that chooses it: {why}; if you "
            f"trust it, type it yourself: {run.data.tags.get(COMMAND_TAG, '')}"
        )
    return kept


def _is_of_the_run(key: str) -> bool:
    return key not in _OWN and key.split(".")[0] != "sweep"


def _words(run: Run) -> list[str]:
    """Return the words of the command of a run; none if a shell cannot parse it."""
    try:
        return shlex.split(run.data.tags.get(COMMAND_TAG, ""))
    except ValueError:
        return []


def _made(folder: Path, run_id: str) -> bool:
    """Return whether a run folder still belongs to a run."""
    done = folder / run_folder.DONE_FILE
    made = recorded_overrides.in_file(done) if done.is_file() else None
    return isinstance(made, dict) and made.get("run_id") == run_id


def changed_settings(client: MlflowClient, run: Run, current: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the settings that the same command gives now but did not then, as (then, now).

    Args:
        client: Client of the store.
        run: The old run; its config is its artifact `config.yaml`.
        current: The config as composed now, resolved.

    Raises:
        InputError: The run has no config.
    """
    with failing_as_input_error(f"run={run.info.run_id}: its config.yaml", ADVICE), TemporaryDirectory() as place:
        text = Path(client.download_artifacts(run.info.run_id, "config.yaml", place)).read_text(encoding="utf-8")
    try:
        recorded = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        recorded = None
    if not isinstance(recorded, dict):
        raise InputError(f"run={run.info.run_id}: its config.yaml holds no settings; {ADVICE}")
    then, now = flatten(recorded), flatten(current)
    settings = sorted(name for name in then.keys() | now.keys() if differences.is_setting(name))
    return _changed({name: then.get(name) for name in settings}, {name: now.get(name) for name in settings})


def trained_further(run: Run) -> dict[str, tuple[str, str]]:
    """Return the settings that changed when a run was resumed, as (first, last).

    A single training with the last settings does not repeat such a run: with more epochs, for instance, the learning
    rate falls more slowly.

    Args:
        run: The run, from the store.
    """
    first, tags = run.data.params, run.data.tags
    last = {name: tags[f"{RESUMED}{name}"] for name in first if f"{RESUMED}{name}" in tags}
    return _changed(first, {name: value for name, value in last.items() if differences.is_setting(name)})


def changed_facts(run: Run, now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the facts about code, machine and data that have changed, as (then, now).

    Args:
        run: The old run.
        now: `run_facts()`, and `data.fingerprint` and `split`.
    """
    compared = {name: value for name, value in now.items() if name.startswith(_COMPARED)}
    return _changed({name: run.data.tags.get(name) for name in compared}, compared)


def _changed(then: Mapping[str, str | None], now: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    return {
        name: (then[name] or differences.ABSENT, now[name] or differences.ABSENT)
        for name in now
        if then[name] != now[name]
    }


def compare_metrics(client: MlflowClient, old: Run, new: Run) -> Comparison:
    """Compare every value of two runs epoch by epoch, and the metrics of the best epoch by their last value.

    System metrics, and metrics that only one run has, are omitted. If the old run was cut short, only its epochs are
    compared: the new run continues, and may find a better epoch.

    Args:
        client: Client of the store that holds both.
        old: The old run, with its metrics.
        new: The new run, with its metrics.
    """
    shared = (name for name in old.data.metrics if name in new.data.metrics)
    is_cut = old.info.status != "FINISHED" or old.data.tags.get(trial.STATE_TAG) == trial.PRUNED
    left_out = (SYSTEM_PREFIX, _BEST) if is_cut else (SYSTEM_PREFIX,)
    n_values, rows, gaps = 0, [], []
    pairs: dict[str, tuple[float | None, float | None]]
    for name in sorted(name for name in shared if not name.startswith(left_out)):
        if name.startswith(_BEST):  # a resumed run has several, one per start
            pairs = {name: (old.data.metrics[name], new.data.metrics[name])}
            rows.append((name, old.data.metrics[name], new.data.metrics[name]))
        else:
            then, now = (_values(client, run, name) for run in (old, new))
            steps = sorted(then if is_cut else then.keys() | now.keys())
            pairs = {f"{name}, epoch {step}": (then.get(step), now.get(step)) for step in steps}
        n_values += len(pairs)
        gaps += [(gap, where) for where, pair in pairs.items() if (gap := _gap(*pair))]
    return Comparison(rows, n_values, len(gaps), max(gaps, default=(0.0, "")))


def _gap(then: float | None, now: float | None) -> float:
    """Return by how much two values differ; NaN equals NaN; a missing value or NaN differs from any number."""
    if then is None or now is None:
        return float("inf")
    if then == now or (then != then and now != now):
        return 0.0
    gap = abs(then - now)
    return gap if gap == gap else float("inf")


def _values(client: MlflowClient, run: Run, name: str) -> dict[int, float]:
    """Return the value of each epoch that the training wrote: a later `eval split=val` adds its own to an epoch."""
    history = client.get_metric_history(run.info.run_id, name)
    return {each.step: each.value for each in sorted(history, key=lambda each: each.timestamp, reverse=True)}
