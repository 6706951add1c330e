"""Compare settings, metrics and curves of runs: `python -m koa_lightning.compare RUN RUN ...`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import best_is, validate
from koa_lightning.config.figures import configured
from koa_lightning.config.overrides import short_names
from koa_lightning.errors import InputError
from koa_lightning.reporting import figures, saving, terminal
from koa_lightning.reporting.compare_figure import curves_figure
from koa_lightning.reporting.console import say_caveats
from koa_lightning.tracking import differences
from koa_lightning.tracking.differences import as_text
from koa_lightning.tracking.runs import ADVICE, find_runs
from koa_lightning.tracking.store import failing_as_input_error, open_store

# In the table of many runs, which has one line per run.
_MAIN = ("quadratic_kappa", "accuracy", "mae", "epoch")
_SIDE_BY_SIDE = 4


@configured
def compare(cfg: DictConfig) -> dict[str, Any]:
    """Show what differs between runs, their metrics side by side, and their curves.

    Args:
        cfg: The config `compare`, composed.

    Returns:
        `runs` (ids), `n_differences`, `files`, `out`.

    Raises:
        InputError: There are fewer than two runs, a run is unknown, or the store fails.
    """
    validate(cfg)
    words = _words(cfg.runs, cfg.search)

    store = open_store(cfg.tracking.uri, Path("mlruns"), create=False)
    with failing_as_input_error(f"runs in {store.name}", ADVICE):
        runs = find_runs(store, words, cfg.search)
        if len(runs) < 2:
            raise InputError(f'only one run ({runs[0].info.run_name}); name two or more, or search="EXPRESSION"')
        names = differences.labels(runs)
        client = store.client()
        histories = {
            name: differences.curves(client, run, list(figures.CURVES)) for name, run in zip(names, runs, strict=True)
        }
    differ = differences.differing([differences.facts(run) for run in runs], names)
    metrics = differences.metrics(runs, names)
    caveats = differences.caveats(runs)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.concat([differ, metrics], ignore_index=True)
    ids = pd.DataFrame([["run", "id", *(run.info.run_id for run in runs)]], columns=["kind", "name", *names])
    pd.concat([ids, table], ignore_index=True).to_csv(folder / "compare.csv", index=False)
    files = [folder / "compare.csv"]
    if any(len(history) for history in histories.values()):
        files += saving.save(curves_figure(histories, caveats), folder / "curves")
    _say(differ, metrics, names, caveats)
    print(f"written: {', '.join(map(str, files))}")
    return {
        "runs": [run.info.run_id for run in runs],
        "n_differences": len(differ),
        "files": [str(file) for file in files],
        "out": str(folder),
    }


def _words(runs: str | Sequence[str], search: str | None) -> list[str]:
    if isinstance(runs, str):
        raise InputError(f"runs={runs}: must be a list, runs=[RUN,RUN]; or name the runs without runs=")
    words = [str(word) for word in runs]
    if not words and not search:
        raise InputError('no run is named; type python -m koa_lightning.compare RUN RUN, or search="EXPRESSION"')
    return words


def _say(differ: pd.DataFrame, metrics: pd.DataFrame, names: list[str], caveats: list[str]) -> None:
    console = Console()
    if len(names) <= _SIDE_BY_SIDE:
        if len(differ):
            terminal.show(console, lambda heads: _table(differ, names, heads), names, "differences")
        else:
            console.print("no differences in config, data, code or machine")
        numbers = _of_largest(metrics, names)
        terminal.show(console, lambda heads: _table(numbers, names, heads, best=True), names, "metrics")
        if len(numbers) < len(metrics):
            console.print("compare.csv also has the metrics of the median and the expected grade", highlight=False)
    else:
        title = f"{len(names)} runs; compare.csv has all differences"
        terminal.show(console, lambda heads: _lines(differ, metrics, names, heads), names, title)
    say_caveats(caveats)
    print(DISCLAIMER)


def _of_largest(metrics: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the metrics of the most probable grade, which fit on a screen; with two runs, also their difference."""
    largest = [not name.endswith(("_expected", "_median")) for name in metrics["name"]]
    columns = ["name", *names] if len(names) > 2 else [name for name in metrics.columns if name != "kind"]
    return metrics.loc[largest, columns]


def _table(rows: pd.DataFrame, names: Sequence[str], heads: Sequence[str], best: bool = False) -> Table:
    """Return a terminal table with one column per run; with `best`, the best value of each row is bold."""
    shown = Table()
    called = dict(zip(names, heads, strict=True))
    called |= {f"{name} - {names[0]}": f"{called[name]} - {called[names[0]]}" for name in names[1:]}
    for column in rows.columns:
        head = escape(called.get(str(column), str(column)))
        shown.add_column(head, justify="right" if best and column != "name" else "left", overflow="fold")
    for row in rows.to_dict("records"):
        cells = [escape(as_text(value, row["name"], str(column))) for column, value in row.items()]
        values = {name: row[name] for name in names if row[name] == row[name]} if best else {}
        better = best_is(row["name"])
        if better and len(set(values.values())) > 1:
            winner = (min if better == "min" else max)(values.values())
            cells = [
                f"[bold]{cell}[/]" if values.get(str(column)) == winner else cell
                for column, cell in zip(rows.columns, cells, strict=True)
            ]
        shown.add_row(*cells)
    return shown


def _lines(differ: pd.DataFrame, metrics: pd.DataFrame, names: Sequence[str], heads: Sequence[str]) -> Table:
    """Return a terminal table with one line per run: the settings that differ, and the main metrics."""
    settings = differ[differ["kind"] == "config"]
    main = metrics[[name.split("/")[-1] in _MAIN and name.startswith(("best/", "test/")) for name in metrics["name"]]]
    shown = Table()
    shown.add_column("run", overflow="fold")
    for name in short_names(list(settings["name"])).values():
        shown.add_column(escape(name), overflow="fold")
    for name in main["name"]:
        shown.add_column(escape(name), justify="right")
    for name, head in zip(names, heads, strict=True):
        numbers = [as_text(value, metric) for metric, value in zip(main["name"], main[name], strict=True)]
        shown.add_row(*map(escape, [head, *map(str, settings[name]), *numbers]))
    return shown
