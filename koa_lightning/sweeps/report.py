"""Report the results of a sweep: `python -m koa_lightning.sweep_report name=STUDY`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.config import recorded_overrides, trusted
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import FORMATS, configured
from koa_lightning.errors import InputError
from koa_lightning.reporting import saving
from koa_lightning.sweeps import best, closing, results
from koa_lightning.sweeps.best import PROGRAM, use
from koa_lightning.sweeps.figures import history, importance, space
from koa_lightning.sweeps.find import find_study
from koa_lightning.sweeps.results import show
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna import Study

    from koa_lightning.sweeps.results import Sweep

FOLDER = "sweep"
"""Folder of the report among the artifacts of the sweep's parent run."""


@configured
def sweep_report(cfg: DictConfig) -> dict[str, Any]:
    """Report on a sweep in a database, without changing the database.

    Args:
        cfg: The config `sweep_report`, composed.

    Returns:
        The result of `report`.

    Raises:
        InputError: No such database, sweep or trial; a sweep without trials.
    """
    validate(cfg)

    study = find_study(None if cfg.name is None else str(cfg.name), cfg.storage)
    if "koa_space" not in study.user_attrs:
        what = "was not made by a sweep of koa_lightning, so its trials cannot be read"
        raise InputError(f"name={study.study_name}: {what}")
    run = _parent_run(cfg.tracking, study, Path(cfg.out))
    try:
        best = Path(cfg.best) if cfg.best else None
        made = report(study, Path(cfg.out), best=best, trial=cfg.trial, run=run)
    finally:
        if run is not None:
            run.close()
    closing.show(study, study.user_attrs.get("koa_trials", 0), PROGRAM)
    say(made)
    return made


def report(
    study: Study, out: Path, *, best: Path | None = None, trial: int | None = None, run: Any = None,
    typed: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Write trials.csv, the figures and the best settings of a sweep, finished or not.

    Args:
        study: Study of the sweep; one made by hand has fewer facts.
        out: The folder of the report.
        best: The file for the best settings; None means experiments/NAME/best.yaml.
        trial: The number of the trial whose settings to write; None means the best (with several objectives, by the
            first).
        run: The tracked parent run, which receives the files as artifacts; it stays open.
        typed: The overrides of the sweep, if this process runs it; those in a database may name other code.

    Returns:
        `best_trial` (None if no trial is complete, or its settings name code that is not installed), the metrics of
        that trial by name, `best_file` (None likewise),
        `same` (the keys that all trials share, with their values), `counts` (trials by state), `out`, `files`,
        `missing` (figure -> why it was not drawn) and `unsaid` (keys that the best file cannot express).

    Raises:
        InputError: The sweep has no trials, or no such trial; or the best file cannot lie there.
    """
    sweep = results.read(study)
    if sweep.trials.empty:
        raise InputError(f"sweep {sweep.name}: has no trials yet; nothing to report")
    chosen = _checked(sweep, _choose(sweep, trial), typed)
    file = best or Path("experiments") / _file_name(sweep.name) / "best.yaml"
    use(file)  # fails before anything is written
    out.mkdir(parents=True, exist_ok=True)
    table = out / "trials.csv"
    results.table(sweep).to_csv(table)
    drawn, missing = _draw(sweep, out)
    unsaid = [] if chosen is None else _write_best(sweep, chosen, file)
    files = [table, *drawn, *([] if chosen is None else [file])]
    if run is not None:
        for each in files:
            run.log_artifact(each, FOLDER)
    metrics = {} if chosen is None else {name: float(sweep.trials[name][chosen]) for name in sweep.metrics}
    return {
        "best_trial": chosen,
        **metrics,
        "best_file": None if chosen is None else file,
        "same": sweep.constant,
        "counts": sweep.counts(),
        "out": out,
        "files": files,
        "missing": missing,
        "unsaid": unsaid,
    }


def say(made: Mapping[str, Any]) -> None:
    """Print the results of `report`, and how to use them."""
    if made["same"]:
        print("the same in all trials: " + ", ".join(f"{key}={show(value)}" for key, value in made["same"].items()))
    for name, why in made["missing"].items():
        print(f"no figure {name}: {why}")
    if made["unsaid"]:
        said = f"{made['best_file']} cannot express {', '.join(made['unsaid'])}; type the command"
        print(f"WARNING: {said}", file=sys.stderr)
    names = ", ".join(file.name for file in made["files"] if file != made["best_file"])
    print(f"report: {made['out']} ({names}); {DISCLAIMER}")
    if made["best_file"] is not None:
        print(f"settings of trial {made['best_trial']}: {made['best_file']}; train with them:")
        print(f"  {best.command(best.use(made['best_file']))}", flush=True)


def _choose(sweep: Sweep, trial: int | None) -> int | None:
    """Return the number of the trial whose settings to write."""
    if trial is None:
        return sweep.front[0] if sweep.front else None
    if trial not in sweep.complete.index:
        known = ", ".join(str(number) for number in sweep.ranking[:10] if number in sweep.complete.index) or "none"
        raise InputError(f"trial={trial}: no complete trial of sweep {sweep.name}; the best are {known}")
    return trial


def _checked(sweep: Sweep, number: int | None, typed: Sequence[str]) -> int | None:
    """Return the number of a trial whose settings may go into a config file; else print why not and return None."""
    items = None if number is None else sweep.attrs[number].get("overrides")
    listed = recorded_overrides.listed(items, f"trial {number} of sweep {sweep.name}")
    if why := recorded_overrides.why_not(best.of_trial(listed), typed):
        said = f"no file of settings is written: {why}; if you trust it, type the trial's command yourself"
        print(f"WARNING: trial {number} of sweep {sweep.name}: {said}", file=sys.stderr)
        return None
    return number


def _draw(sweep: Sweep, out: Path) -> tuple[list[Path], dict[str, str]]:
    """Draw the figures that the trials allow; return the files, and the reason for each missing figure."""
    drawers = {
        "history": history.history_figure,
        "curves": history.curves_figure,
        "parallel": space.parallel_figure,
        "importance": importance.importance_figure,
        "slices": space.slices_figure,
    }
    if len(sweep.metrics) > 1:
        drawers["pareto"] = history.pareto_figure
    files, missing = [], {}
    for name, draw in drawers.items():
        for kind in FORMATS:  # of an earlier report
            (out / f"{name}.{kind}").unlink(missing_ok=True)
        try:
            files += saving.save(draw(sweep), out / name)
        except history.NotEnough as why:
            missing[name] = str(why)
    return files, missing


def _write_best(sweep: Sweep, number: int, file: Path) -> list[str]:
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    notes = [
        f"trial {number} of the sweep {sweep.name} ({counts}): {_reached(sweep, number)}",
        *([f"{', '.join(sweep.caveats)}: not a result"] if sweep.caveats else []),
    ]
    return best.write(file, best.of_trial(sweep.attrs[number].get("overrides") or []), notes)


def _reached(sweep: Sweep, number: int) -> str:
    """Return the values of a trial, with the spread of its repeats."""
    row: Any = sweep.trials.loc[number]
    words = [f"{name} {_value(row[name], row[f'sd {name}'])}" for name in sweep.metrics]
    return ", ".join(words) + (f" (mean and sd of {row['repeats']} repeats)" if row["repeats"] > 1 else "")


def _value(value: float, sd: float) -> str:
    return f"{value:.4f}" + (f" ± {sd:.4f}" if sd == sd else "")


def _parent_run(tracking: DictConfig, study: Study, folder: Path) -> Any:
    """Return the sweep's parent run, to add to it; None if there is none, or it is out of reach."""
    run_id, uri = (study.user_attrs.get(f"koa_{name}") for name in ("parent_run", "tracking_uri"))
    if not run_id or not tracking.enabled:
        return None

    where = trusted.place(tracking.uri, uri)
    if where.refused:
        why = "neither configured here nor a database on this machine (tracking.uri=ADDRESS uses it)"
        print(f"WARNING: {trusted.shown(uri)}, where it was tracked, is {why}; nothing is added to it", file=sys.stderr)
        return None
    store = open_store(where.uri, Path("mlruns"), create=False)
    if not store.has_run(run_id):
        print(
            f"WARNING: the sweep's parent run {run_id} is not in {store.name}; nothing is added to it", file=sys.stderr
        )
        return None
    return start_run(store, tracking.experiment, None, folder, run_id=run_id, attach=True)


def _file_name(name: str) -> str:
    """Return the name of a study as a folder name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "sweep"
