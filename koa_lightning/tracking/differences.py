"""Differences between runs: settings, data, code, machine; and their metrics side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run

from koa_lightning.tracking.entries import RESUMED
from koa_lightning.tracking.system import SYSTEM_PREFIX

ABSENT = "-"
KINDS = ("config", "data", "code", "machine")
"""Kinds of differences, in the order shown."""
_DATA = {"data", "data.fingerprint", "split", "marks", "weights", "leaky"}
_CODE = ("git.", "version.")
_MACHINE = {"device", "precision", "precision.reason", "machine.platform", "machine.cpu", "machine.threads"}
# Where a run is written and how its output looks; these do not define the run.
_NOT_SETTINGS = ("out", "quiet", "ckpt", "name", "tracking", "parallel", "fresh", "sweep", "data.cache_dir", "figures")
_CURVE = ("train/", "val/")


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a label for each run: its name, with the start of its id if several runs share the name."""
    names = [run.info.run_name or "" for run in runs]
    return [
        name if name and names.count(name) == 1 else f"{name} {run.info.run_id[:8]}".strip()
        for name, run in zip(names, runs, strict=True)
    ]


def facts(run: Run) -> dict[tuple[str, str], str]:
    """Return the facts of a run by (kind, name); settings are those of its last start."""
    known, tags = run.data.params, run.data.tags
    settings = {name: tags.get(f"{RESUMED}{name}", known[name]) for name in known if is_setting(name)}
    found = {("config", name): value for name, value in settings.items()}
    for name, value in run.data.tags.items():
        if kind := _kind(name):
            found[kind, name] = value
    return found


def is_setting(name: str) -> bool:
    """Return whether a key of a config defines the run."""
    return not f"{name}.".startswith(tuple(f"{key}." for key in _NOT_SETTINGS))


def differing(all_facts: Sequence[Mapping[tuple[str, str], str]], names: Sequence[str]) -> pd.DataFrame:
    """Return only the differences: columns kind, name, and one per run.

    Args:
        all_facts: Facts of each run, from `facts`.
        names: Labels of the runs, from `labels`.
    """
    keys = {key for one in all_facts for key in one}
    rows = []
    for kind, name in sorted(keys, key=lambda key: (KINDS.index(key[0]), key[1])):
        values = [one.get((kind, name), ABSENT) for one in all_facts]
        if len(set(values)) > 1:
            rows.append([kind, name, *values])
    return pd.DataFrame(rows, columns=["kind", "name", *names])


def metrics(runs: Sequence[Run], names: Sequence[str]) -> pd.DataFrame:
    """Return the metrics side by side: columns kind, name, one per run, and `NAME - FIRST` for each but the first.

    They are those of the best epoch and of later evaluations; if a run has none, the last values of the curves too.

    Args:
        runs: The runs, in their order.
        names: Labels of the runs, from `labels`.
    """
    found = [{n: v for n, v in run.data.metrics.items() if not n.startswith(SYSTEM_PREFIX)} for run in runs]
    unfinished = any(all(name.startswith(_CURVE) for name in one) for one in found)
    keys = sorted({name for one in found for name in one if unfinished or not name.startswith(_CURVE)})
    table = pd.DataFrame([[one.get(key, float("nan")) for one in found] for key in keys], columns=list(names))
    for name in names[1:]:
        table[f"{name} - {names[0]}"] = table[name] - table[names[0]]
    table.insert(0, "kind", "metric")
    table.insert(1, "name", keys)
    return table


def curves(client: MlflowClient, run: Run, shown: Sequence[str]) -> pd.DataFrame:
    """Return the curves of a run as columns epoch, name (SPLIT/NAME) and value; a repeated epoch has its last value.

    Args:
        client: Client of the store.
        run: A trained run.
        shown: Names of metrics without the split, e.g. loss.
    """
    wanted = [f"{split}{name}" for split in _CURVE for name in shown if f"{split}{name}" in run.data.metrics]
    points = [(m.step, name, m.value) for name in wanted for m in client.get_metric_history(run.info.run_id, name)]
    table = pd.DataFrame(points, columns=["epoch", "name", "value"])
    return table.drop_duplicates(["epoch", "name"], keep="last").reset_index(drop=True)


def caveats(runs: Sequence[Run]) -> list[str]:
    """Return the caveats of all runs, each once."""
    said = [caveat for run in runs for caveat in run.data.tags.get("marks", "none").split(", ")]
    return list(dict.fromkeys(caveat for caveat in said if caveat != "none"))


def _kind(tag: str) -> str | None:
    if tag in _DATA:
        return "data"
    if tag in _MACHINE:
        return "machine"
    return "code" if tag.startswith(_CODE) else None


def as_text(value: Any, name: str = "", column: str = "") -> str:
    """Return a value as text: numbers with four decimals, epochs as whole numbers, a missing value as a dash.

    Args:
        value: Value of a cell.
        name: Name of its row, e.g. a metric.
        column: Name of its column; differences always show their sign.
    """
    if not isinstance(value, float):
        return str(value)
    sign = "+" if " - " in column else ""
    return ABSENT if value != value else format(value, f"{sign}.0f" if name.endswith("/epoch") else f"{sign}.4f")
