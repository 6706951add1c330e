"""Say what came of a sweep: `python -m koa_lightning.sweep_report name=STUDY`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from koa_lightning import DISCLAIMER, cli
from koa_lightning.config import validate
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    from optuna import Study

    from koa_lightning.sweeps.results import Sweep

FOLDER = "sweep"
"""Where the report lies among the artifacts of the sweep's parent run."""


def sweep_report(cfg: DictConfig) -> dict[str, Any]:
    """Report on a study in a database; nothing in the study is changed.

    Args:
        cfg: The config `sweep_report`, composed.

    Returns:
        What `report` returns.

    Raises:
        InputError: No such database, study or trial; an empty study.
    """
    validate(cfg)
    from koa_lightning.sweeps.find import find_study

    study = find_study(None if cfg.name is None else str(cfg.name), cfg.storage)
    best = Path(cfg.best) if cfg.best else None
    run = _parent_run(cfg.tracking, study, Path(cfg.out))
    try:
        return report(study, Path(cfg.out), best=best, trial=cfg.trial, run=run, n_shown=cfg.n_shown)
    finally:
        if run is not None:
            run.close()


def report(
    study: Study, out: Path, *, best: Path | None = None, trial: int | None = None, run: Any = None, n_shown: int = 20
) -> dict[str, Any]:
    """Report on a study, finished or not: print it, and write trials.csv, figures and the best settings.

    Args:
        study: Of a sweep; one made by hand has fewer facts.
        out: The folder of the report.
        best: The file for the best settings; None: experiments/NAME/best.yaml.
        trial: The number of the trial whose settings these are; None: the best (of several objectives the best of the
            first one).
        run: The tracked parent run, which gets the files as artifacts; it stays open.
        n_shown: Trials printed.

    Returns:
        `best_trial` (None where no trial is complete), the metrics of that trial by name, `counts` (trials by state),
        `files` and `missing` (figure -> why it was not drawn).

    Raises:
        InputError: The study has no trials, or no such trial.
    """
    from koa_lightning.sweeps import results
    from koa_lightning.sweeps.best import use

    sweep = results.read(study)
    if sweep.trials.empty:
        raise InputError(f"sweep {sweep.name}: has no trials yet; nothing to report")
    chosen = _choose(sweep, trial)
    file = best or Path("experiments") / _file_name(sweep.name) / "best.yaml"
    use(file)  # complains before anything is written
    out.mkdir(parents=True, exist_ok=True)
    table = out / "trials.csv"
    results.table(sweep).to_csv(table)
    drawn, missing = _draw(sweep, out)
    left_out = [] if chosen is None else _write_best(sweep, chosen, file)
    files = [table, *drawn, *([] if chosen is None else [file])]
    if run is not None:
        for each in files:
            run.log_artifact(each, FOLDER)
    _say_trials(sweep, n_shown)
    _say_best(sweep, chosen, file, left_out)
    for name, why in missing.items():
        print(f"no figure {name}: {why}")
    print(f"written to {out}: {', '.join(each.name for each in (table, *drawn))}; {DISCLAIMER}", flush=True)
    metrics = {} if chosen is None else {name: float(sweep.trials[name][chosen]) for name in sweep.metrics}
    return {"best_trial": chosen, **metrics, "counts": sweep.counts(), "files": files, "missing": missing}


def _choose(sweep: Sweep, trial: int | None) -> int | None:
    """Return the number of the trial whose settings are wanted."""
    if trial is None:
        return sweep.front[0] if sweep.front else None
    if trial not in sweep.complete.index:
        known = ", ".join(str(number) for number in sweep.ranking[:10] if number in sweep.complete.index) or "none"
        raise InputError(f"trial={trial}: no complete trial of sweep {sweep.name}; the best are {known}")
    return trial


def _draw(sweep: Sweep, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Draw what the trials make; return the files, and why each other figure is not among them."""
    from koa_lightning.reports import figures, sweep_figures, sweep_importance, sweep_space_figures

    drawers = {
        "history": sweep_figures.history_figure,
        "curves": sweep_figures.curves_figure,
        "parallel": sweep_space_figures.parallel_figure,
        "importance": sweep_importance.importance_figure,
        "slices": sweep_space_figures.slices_figure,
    }
    if len(sweep.metrics) > 1:
        drawers["pareto"] = sweep_figures.pareto_figure
    files, missing = [], {}
    for name, draw in drawers.items():
        file = out / f"{name}.png"
        try:
            files.append(figures.save(draw(sweep), file))
        except sweep_figures.NotEnough as why:
            file.unlink(missing_ok=True)  # of an earlier report
            missing[name] = str(why)
    return files, missing


def _write_best(sweep: Sweep, number: int, file: Path) -> list[str]:
    from koa_lightning.sweeps import best

    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    notes = [
        f"trial {number} of the sweep {sweep.name} ({counts}): {_reached(sweep, number)}",
        *([f"{', '.join(sweep.marks)}: not a result"] if sweep.marks else []),
    ]
    return best.write(file, best.of_trial(sweep.attrs[number].get("overrides") or []), notes)


def _reached(sweep: Sweep, number: int) -> str:
    """Return what a trial reached, with the spread of its repeats."""
    row: Any = sweep.trials.loc[number]
    words = [f"{name} {_value(row[name], row[f'sd {name}'])}" for name in sweep.metrics]
    return ", ".join(words) + (f" (mean and sd of {row['repeats']} repeats)" if row["repeats"] > 1 else "")


def _value(value: float, sd: float) -> str:
    return "" if value != value else f"{value:.4f}" + (f" ± {sd:.4f}" if sd == sd else "")


def _say_trials(sweep: Sweep, n_shown: int) -> None:
    """Print the table of trials, and what they have in common."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from koa_lightning.sweeps.results import short_names, show

    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    n = len(sweep.trials)
    total = _duration(float(sweep.trials["duration"].sum()))
    shown = Table(title=escape(f"{sweep.name}: {n} trial{'s' if n != 1 else ''} ({counts}), {total} of training"))
    names = short_names(sweep.varied)
    shown.add_column("trial", justify="right")
    shown.add_column("state")
    for metric in sweep.metrics:
        shown.add_column(escape(metric), justify="right")
    for key in sweep.varied:
        shown.add_column(escape(names[key]))
    shown.add_column("time", justify="right")
    for number in sweep.ranking[:n_shown]:
        row: Any = sweep.trials.loc[number]
        keys = ["-" if value is None else escape(show(value)) for value in sweep.params.loc[number, sweep.varied]]
        style = "bold" if number in sweep.front else "dim" if row["state"] != "complete" else None
        shown.add_row(str(number), _state(row), *_values(sweep, row), *keys, _duration(row["duration"]), style=style)
    Console(highlight=False, width=None if sys.stdout.isatty() else 160).print(shown)
    if n > n_shown:
        print(f"and {n - n_shown} more in trials.csv")
    if sweep.constant:
        print("the same in all: " + ", ".join(f"{key}={show(value)}" for key, value in sweep.constant.items()))
    for number in [n for n in sweep.ranking if sweep.trials.loc[n, "error"]][:5]:
        print(f"trial {number}: {' '.join(str(sweep.trials.loc[number, 'error']).split())[:300]}")
    for mark in sweep.marks:
        print(f"{mark}: not a result")


def _state(row: Any) -> str:
    kind = str(row["error_kind"]).replace("_", " ")
    return f"{row['state']}: {kind}" if kind and kind != "error" else str(row["state"])


def _values(sweep: Sweep, row: Any) -> list[str]:
    """Return the cells of the metrics; of a trial that did not end the last value that it reported, in brackets."""
    if row["state"] != "complete" and row["last"] == row["last"] and len(sweep.metrics) == 1:
        return [f"({row['last']:.4f})"]
    return [_value(row[name], row[f"sd {name}"]) for name in sweep.metrics]


def _duration(seconds: float) -> str:
    if seconds != seconds:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _say_best(sweep: Sweep, chosen: int | None, file: Path, left_out: list[str]) -> None:
    from koa_lightning.sweeps import best

    if chosen is None:
        print("no trial is complete, so there are no best settings")
        return
    overrides = best.of_trial(sweep.attrs[chosen].get("overrides") or [])
    word = "best" if chosen in sweep.front else "chosen"
    if len(sweep.front) > 1:
        print(f"Pareto front: trials {', '.join(map(str, sweep.front))} (trial=NUMBER takes another one of them)")
    print(f"{word}: trial {chosen}, {_reached(sweep, chosen)}")
    print(f"  {best.command(overrides)}")
    print(f"  or from {file}: {best.command(best.use(file))}")
    if left_out:
        print(f"WARNING: {file} cannot say {', '.join(left_out)}; the command does", file=sys.stderr)


def _parent_run(tracking: DictConfig, study: Study, folder: Path) -> Any:
    """Return the sweep's parent run, to be added to; None where there is none, or it is out of reach."""
    run_id, uri = (study.user_attrs.get(f"koa_{name}") for name in ("parent_run", "tracking_uri"))
    if not run_id or not tracking.enabled:
        return None
    from koa_lightning.tracking.run import start_run
    from koa_lightning.tracking.store import open_store

    store = open_store(tracking.uri or uri or None, Path("mlruns"), create=False)
    if not store.has_run(run_id):
        print(
            f"WARNING: the sweep's parent run {run_id} is not in {store.name}; nothing is added to it", file=sys.stderr
        )
        return None
    return start_run(store, tracking.experiment, None, folder, run_id=run_id, attach=True)


def _file_name(name: str) -> str:
    """Return the name of a study as a folder's."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "sweep"


def main() -> None:
    """Entry point of `koa-sweep-report` and `python -m koa_lightning.sweep_report`."""
    cli.launch("sweep_report", "koa_lightning.sweep_report:sweep_report")


if __name__ == "__main__":
    main()
