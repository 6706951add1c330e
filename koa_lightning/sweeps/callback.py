"""The training's side of a sweep: report after each epoch, and stop if the trial is pruned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from koa_lightning.config import cluster, json_files, run_files
from koa_lightning.config.outcome import DONE
from koa_lightning.config.run_folder import DONE_FILE
from koa_lightning.config.trial import of_run
from koa_lightning.sweeps import trial
from koa_lightning.training import run
from koa_lightning.training.module import check_metric


class ReportToSweep(Callback):
    """Reports a metric after each validated epoch; ends the training of a pruned trial.

    Args:
        metric: Name of the metric; None reports nothing.

    Attributes:
        pruned: Whether the trial was pruned.
    """

    def __init__(self, metric: str | None) -> None:
        self.metric, self.pruned = metric, False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report; after the last epoch there is nothing left to prune."""
        every = trainer.check_val_every_n_epoch or 1
        if self.metric is None or (trainer.current_epoch + 1) % every:
            return
        value = float(trainer.callback_metrics[self.metric])
        stop = trial.report(value, trainer.current_epoch) if trainer.is_global_zero else False
        stop = trainer.strategy.broadcast(stop)  # of several processes only one reports
        if stop and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self.pruned = trainer.should_stop = True


def reporter(folder: Path) -> ReportToSweep:
    """Return the callback of a run.

    Args:
        folder: Folder of the run.

    Raises:
        InputError: The sweep needs a metric that no training reports.
    """
    settings = of_run(folder)
    if settings is None:
        return ReportToSweep(None)
    for name in settings.metrics:
        if name != "seconds":
            check_metric(name, "sweep.metrics")
    return ReportToSweep(settings.metrics[0] if settings.metrics[0] != "seconds" and settings.repeat == 0 else None)


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train one run as `koa_lightning.training.run.train` does; a job of a sweep reports to it.

    If a cluster restarted the job (requeued it, or its node died), the job resumes its own run.

    Args:
        cfg: The config `train`, composed.
    """
    folder = Path(cfg.out)
    if cfg.ckpt is None and cluster.began_in(folder):
        if (folder / DONE_FILE).exists():
            print(f"{folder}: finished before the job was started again; nothing to do", flush=True)
            return {**json_files.read(folder / DONE_FILE, run_files.DONE, "remove the folder"), "exit_code": DONE}
        last = folder / "checkpoints" / "last.ckpt"
        cfg.ckpt = str(last.absolute()) if last.is_file() else None
    return run.train(cfg, reporter)
