"""The end of a training: draw figures and panels, log the checkpoints, and print the last lines."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from omegaconf import DictConfig

from koa_lightning.checkpoint import reading
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.config import signals, trial
from koa_lightning.config.addresses import public
from koa_lightning.config.outcome import DONE, INTERRUPTED
from koa_lightning.config.run_folder import DONE_FILE
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.evaluation import uncertainty as trusted
from koa_lightning.evaluation.explanations import record_tests
from koa_lightning.evaluation.grading import Graded, Member
from koa_lightning.explain.cam import asked
from koa_lightning.metrics import constant
from koa_lightning.reporting import figures, saving
from koa_lightning.reporting.panels import draw_graded
from koa_lightning.training.build import device_for
from koa_lightning.training.callbacks import History
from koa_lightning.training.module import KneeGrader
from koa_lightning.uncertainty.conformal import ALPHA
from koa_lightning.uncertainty.fit import in_words


def finish(
    cfg: DictConfig, folder: Path, module: KneeGrader, data: KneeDataModule, history: History, run: Any
) -> dict[str, Any]:
    """Draw and store the results of a training; return the metrics of its best epoch.

    Args:
        cfg: The run's config.
        folder: The run folder.
        module: The trained module.
        data: With the validation split.
        history: The metrics of all epochs.
        run: The tracked run, still open.
    """
    checkpoints = folder / "checkpoints"
    best_file = checkpoints / "best.ckpt"
    if not best_file.exists():  # the monitored metric was never a number, as in a smoke test
        shutil.copyfile(checkpoints / "last.ckpt", best_file)
    member = Member(reading.read(best_file), device_for(cfg.trainer.accelerator))
    best = history.best() or history.epochs[-1]
    _log_missing(history, run)
    _draw_curves(folder, module, history, run)
    # once, for all steps below; raw probabilities, as those chose the epoch
    graded = member.grade_split(data, "val", calibrated=False)
    _draw_best(cfg.explain, folder, member, data, graded, run, cfg.quiet)
    _calibrate(cfg.calibration, folder, member.checkpoint, data, graded, run)
    _say_if_no_better(data, graded)
    for file in (best_file, checkpoints / "last.ckpt", folder / "history.csv", folder / "manifest.parquet"):
        run.log_artifact(file, "checkpoints" if file.suffix == ".ckpt" else None)
    run.log_tags(trial.state_tags(trial.COMPLETE))
    return {**_logged(best, run), "checkpoint": str(best_file), "marks": member.checkpoint.caveats}


def pruned(folder: Path, module: KneeGrader, history: History, run: Any) -> dict[str, Any]:
    """Store the curves and metrics of a pruned trial of a sweep, without checkpoints and panels."""
    best = history.best() or history.epochs[-1]
    _log_missing(history, run)
    _draw_curves(folder, module, history, run)
    run.log_artifact(folder / "history.csv")
    run.log_tags(trial.state_tags(trial.PRUNED))
    last, caveats = folder / "checkpoints" / "last.ckpt", list(module.record.caveats)
    return {**_logged(best, run), "checkpoint": str(last), "marks": caveats, "pruned": True}


def _logged(best: dict[str, float], run: Any) -> dict[str, Any]:
    """Log the metrics of the best epoch; return them as the start of a training's result."""
    metrics = {name: value for name, value in best.items() if name != "epoch"}
    epoch = int(best["epoch"])
    run.log_metrics({"best/epoch": epoch, **_best_names(metrics)}, epoch)
    return {**metrics, "best_epoch": epoch, "run_id": run.run_id, "exit_code": DONE}


def conclude(folder: Path, monitor: str, uri: str | None, result: dict[str, Any]) -> dict[str, Any]:
    """Mark the run as finished, now that everything is stored, and print where it is; return the result."""
    known = {name: value for name, value in result.items() if value == value}
    (folder / DONE_FILE).write_text(json.dumps(known, indent=1))
    if result["run_id"]:
        print(f"MLflow run {result['run_id']} (view it: {how_to_look(uri)})")
    shown = f"epoch {result['best_epoch']}, {monitor} {result.get(monitor, float('nan')):.4f}"
    what = "pruned; last" if result.get("pruned") else "best"
    print(f"{what} checkpoint: {result['checkpoint']} ({shown})", flush=True)
    return result


def how_to_look(uri: str | None) -> str:
    """Return how to view the tracked runs: a command, or the address of a server.

    Args:
        uri: As configured; None takes MLFLOW_TRACKING_URI, else the database in the current folder.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri and uri.startswith(("http://", "https://")):
        return public(uri)
    if not uri and Path("Makefile").is_file():  # a checkout
        return "make ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri or 'sqlite:///mlruns/mlflow.db')}"


def keep(folder: Path, module: KneeGrader, history: History, run: Any) -> None:
    """Store what an interrupted training has so far."""
    if signals.received() is None:  # the sender of a signal does not wait for figures
        _draw_curves(folder, module, history, run)
    for name in ("best.ckpt", "last.ckpt"):
        if (file := folder / "checkpoints" / name).exists():
            run.log_artifact(file, "checkpoints")


def interrupted(folder: Path, history: History, run: Any) -> dict[str, Any]:
    """Print how to resume an interrupted training; return the metrics of its best epoch so far."""
    last = folder / "checkpoints" / "last.ckpt"
    how = f"resume with: python -m koa_lightning.train {shlex.quote(f'ckpt={last}')}"
    print(f"interrupted; {how if last.exists() else 'no epoch had begun, start again'}", flush=True)
    return {**history.best(), "exit_code": INTERRUPTED, "run_id": run.run_id}


def _log_missing(history: History, run: Any) -> None:
    """Log the metrics that a killed process put into a checkpoint but did not send to the store."""
    stored = run.history()
    for row in history.epochs:
        epoch = int(row["epoch"])
        values = {name: value for name, value in row.items() if name != "epoch"}
        missing = {n: value for n, value in values.items() if epoch not in (step for step, _ in stored.get(n, []))}
        if missing:
            run.log_metrics(missing, epoch)


def _draw_curves(folder: Path, module: KneeGrader, history: History, run: Any) -> None:
    if history.epochs:
        caveats = module.record.caveats
        curves = figures.learning_curves_figure(history.table(), caveats, monitor=history.monitor, mode=history.mode)
        for file in saving.save(curves, folder / "figures" / "learning_curves"):
            run.log_artifact(file, "figures")


def _best_names(best: dict[str, float]) -> dict[str, float]:
    """Return the validation metrics of the best epoch as `best/NAME`, for comparing runs in a list."""
    return {name.replace("val/", "best/", 1): value for name, value in best.items() if name.startswith("val/")}


def _calibrate(
    method: str,
    folder: Path,
    read: Checkpoint,
    data: KneeDataModule,
    graded: Graded,
    run: Any,
) -> None:
    """Fit calibration and uncertainty, write them into the best checkpoint, and draw them."""
    read = trusted.fit_into(read, data, graded, method)
    trial.say_once(in_words(read.record.fitted.calibration))
    found = trusted.evaluate_split(read, data.tables["val"], graded.logits, None, alpha=ALPHA)
    for file in trusted.draw(found, "validation", read.caveats, folder / "figures"):
        run.log_artifact(file, "figures")


def _say_if_no_better(data: KneeDataModule, graded: Graded) -> None:
    """Print a line if the best checkpoint grades the validation split no better than one grade for all knees."""
    grade = data.tables["val"]["grade"].to_numpy(dtype=np.int64)
    known = grade >= 0
    predicted = graded.probabilities.argmax(1).numpy()
    if line := constant.no_better(grade[known], predicted[known]):
        print(f"validation: {line}", flush=True)


def _draw_best(
    explain: DictConfig, folder: Path, member: Member, data: KneeDataModule, graded: Graded, run: Any, quiet: bool
) -> None:
    """Draw the validation split as the best checkpoint grades it."""
    net, read = member.net, member.checkpoint
    drawn = draw_graded(
        net,
        data.datasets["val"],
        data.tables["val"]["path"].tolist(),
        graded.logits,
        read.caveats,
        folder / "figures",
        title="validation",
        n_worst=explain.n_worst if explain.enabled else None,
        maps=asked(explain, net),
    )
    for file in drawn:
        run.log_artifact(file, explain.method if file.name.startswith(explain.method) else "figures")
    if explain.enabled and explain.tests:
        place = folder / "figures"
        record_tests(net, data, "val", explain, place, run, read=read, caveats=read.caveats, quiet=quiet)


def panel_drawer(
    explain: DictConfig, folder: Path, data: KneeDataModule, run: Any
) -> Callable[[L.LightningModule, int], None]:
    """Return a function that draws the panel of an epoch from the logits of its validation."""

    def draw_epoch(module: L.LightningModule, epoch: int) -> None:
        assert isinstance(module, KneeGrader)
        # with several processes, this one has graded only some of the knees
        graded, logits = (torch.cat(found) for found in zip(*module.val_outputs, strict=True))
        rows, val = graded.numpy(), data.datasets["val"]
        drawn = draw_graded(
            module.net,
            KneeDataset(val.images, val.rows[rows], val.grades[rows]),
            data.tables["val"]["path"].iloc[rows].tolist(),
            logits,
            module.record.caveats,
            folder / "figures",
            title="validation",
            n_worst=explain.n_worst,
            maps=asked(explain, module.net),
            suffix=f"_epoch_{epoch:03d}",
        )
        for file in drawn:
            run.log_artifact(file, explain.method)

    return draw_epoch
