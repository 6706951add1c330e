"""Delete the checkpoints that nobody needs: `python -m koa_lightning.prune_checkpoints sweep_run=ID keep=3`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from koa_lightning.config.compose import best_is, validate
from koa_lightning.errors import InputError
from koa_lightning.tracking import prune
from koa_lightning.tracking.runs import ADVICE, children, find_run, search
from koa_lightning.tracking.store import failing_as_input_error, open_store

if TYPE_CHECKING:
    from mlflow.entities import Run

    from koa_lightning.tracking.prune import Candidate
    from koa_lightning.tracking.store import Store


def prune_checkpoints(cfg: DictConfig) -> dict[str, Any]:
    """Keep the checkpoints of the best runs of a sweep or an experiment; with `yes`, delete the others.

    Args:
        cfg: The config `prune_checkpoints`, composed.

    Returns:
        `n_runs`, `n_kept`, `n_pruned` and `n_bytes` (freed, or that would be).

    Raises:
        InputError: Any error that the user can correct.
    """
    validate(cfg)

    store = open_store(cfg.tracking.uri, Path("mlruns"), create=False)
    client = store.client()
    with failing_as_input_error(f"checkpoints in {store.name}", ADVICE):
        runs, what = _runs(store, cfg.sweep_run, cfg.tracking.experiment)
        candidates = prune.choose(client, runs, cfg.keep, cfg.metric, best_is(cfg.metric))
        _say(candidates, what, cfg.metric)
        going = [one for one in candidates if not one.kept]
        if cfg.yes:
            for one in going:
                prune.remove(client, one)
    size = sum(one.size for one in going)
    done = "freed" if cfg.yes else "would be freed"
    print(f"{_megabytes(size)} {done}: the checkpoints of {len(going)} of {len(candidates)} runs", flush=True)
    if going and not cfg.yes:
        print("nothing was deleted; to delete them, type the same command with yes=true")
    return {"n_runs": len(candidates), "n_kept": len(candidates) - len(going), "n_pruned": len(going), "n_bytes": size}


def _runs(store: Store, sweep: str | None, name: str | None) -> tuple[list[Run], str]:
    """Return the runs to choose from, and a name for the group."""
    client = store.client()
    if (sweep is None) == (name is None):
        raise InputError("name either a sweep, sweep_run=ID|NAME, or an experiment, tracking.experiment=NAME")
    if sweep is not None:
        parent = find_run(store, str(sweep))
        runs = children(client, parent)
        if not runs:
            raise InputError(f"sweep_run={sweep}: no run belongs to it; name the parent of a sweep")
        return runs, f"sweep {parent.info.run_name}"
    experiment = client.get_experiment_by_name(str(name))
    if experiment is None:
        raise InputError(f"tracking.experiment={name}: no such experiment in {store.name}")
    runs = list(search(client, "", [experiment.experiment_id]))
    if not runs:
        raise InputError(f"tracking.experiment={name}: has no runs")
    # a cross-validation needs all of its folds; named as sweep_run it can be pruned too
    single = [run for run in runs if run.data.params.get("data.folds", "null") == "null"]
    if len(single) < len(runs):
        print(f"{len(runs) - len(single)} runs of cross-validations are left alone (name one by sweep_run=ID)")
    return single, f"experiment {experiment.name}"


def _say(candidates: list[Candidate], what: str, metric: str) -> None:
    shown = Table(title=escape(f"checkpoints of {what}"))
    shown.add_column("run", overflow="fold")
    shown.add_column(metric, justify="right")
    shown.add_column("size", justify="right")
    shown.add_column("")
    for one in candidates:
        value = f"{one.value:.4f}" if one.value == one.value else "-"
        fate = f"stays: {one.kept}" if one.kept else "[bold]goes[/]"
        shown.add_row(escape(one.run.info.run_name or one.run.info.run_id), value, _megabytes(one.size), fate)
    Console().print(shown)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
