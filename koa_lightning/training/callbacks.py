"""Callbacks of a training: history, checkpoints, panels, signals, and one line per epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, RichProgressBar
from rich import get_console

from koa_lightning.checkpoint.files import write_whole
from koa_lightning.config import signals


class History(Callback):
    """Keeps the metrics of every epoch, also across a resume, and writes them to `history.csv`.

    Args:
        file: The CSV: epoch, name (`SPLIT/NAME`), value.
        monitor: The metric that chooses the best epoch.
        mode: `max` or `min`.
    """

    def __init__(self, file: Path, monitor: str, mode: str) -> None:
        self.file, self.monitor, self.mode = file, monitor, mode
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Store the epoch's metrics, before the checkpoint is written."""
        known = trainer.callback_metrics.items()
        splits = ("train/", "val/") if _validated(trainer) else ("train/",)  # else those of an earlier epoch
        values = {name: float(value) for name, value in known if name.startswith(splits)}
        self.epochs = [row for row in self.epochs if row["epoch"] < trainer.current_epoch]
        self.epochs.append({"epoch": trainer.current_epoch, **values})
        if trainer.is_global_zero:
            self.table().to_csv(self.file, index=False)

    def table(self) -> pd.DataFrame:
        """Return a table of epoch, name and value, one row per metric."""
        rows = [
            (int(row["epoch"]), name, value) for row in self.epochs for name, value in row.items() if name != "epoch"
        ]
        return pd.DataFrame(rows, columns=["epoch", "name", "value"])

    def best(self) -> dict[str, float]:
        """Return the metrics of the first best epoch, chosen as for `best.ckpt`; empty before the first epoch."""
        validated = [row for row in self.epochs if any(name.startswith("val/") for name in row)]
        known = [row for row in validated if not math.isnan(row.get(self.monitor, math.nan))]
        sign = 1 if self.mode == "max" else -1
        return max(known, key=lambda row: sign * row[self.monitor], default={})

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.epochs = list(state_dict["epochs"])


class SpeedWatch(Callback):
    """Passes the speed of a training, that of its fastest step, to a function at the end.

    Args:
        batch_size: Images per step; smaller batches are ignored.
        heard: Receives images per second.
    """

    def __init__(self, batch_size: int, heard: Callable[[float], None]) -> None:
        self.batch_size, self.heard = batch_size, heard
        self._began: float | None = None
        self._best = float("inf")

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter() if len(batch["image"]) == self.batch_size else None

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the time of the step."""
        if self._began is not None:
            self._best = min(self._best, time.perf_counter() - self._began)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Report the speed."""
        if self._best < float("inf") and trainer.is_global_zero:
            self.heard(self.batch_size / self._best)


class EndBetweenBatches(Callback):
    """Delays a signal that ends the training until the current batch is done.

    It replaces Lightning's own handlers, which on a cluster write their own checkpoint and continue training. It must
    be the last callback, because the work of the others after a batch belongs to that batch.
    """

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install our signal handlers again: Lightning has just installed its own."""
        if signals.is_installed():
            signals.install()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Hold signals until the batch ends."""
        signals.hold()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the training if a signal came meanwhile."""
        signals.release()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Stop holding signals."""
        signals.let_go()


class EveryNEpochs(Callback):
    """Calls a function after the validation of every n-th epoch, with the weights that were validated.

    It must come before the weight average in the callbacks, as that one removes the averaged weights again.
    """

    def __init__(self, n: int, function: Callable[[L.LightningModule, int], None]) -> None:
        self.n, self.function = n, function

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Call the function if it is due."""
        if (trainer.current_epoch + 1) % self.n == 0 and trainer.is_global_zero:
            self.function(pl_module, trainer.current_epoch)


def progress(monitor: str, quiet: bool) -> Callback:
    """Return the progress bar, or one line per epoch if the output is not a terminal (a file, a pipe).

    Args:
        monitor: Metric name.
        quiet: Whether to show no bar in any case.
    """
    seen = get_console().is_terminal or get_console().is_jupyter
    return OneLineAnEpoch(monitor) if quiet or not seen else RichProgressBar()


class OneLineAnEpoch(Callback):
    """Prints the main numbers of each epoch, for logs; as in the progress bar, the first epoch is 0."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        metrics = trainer.callback_metrics
        shown = [name for name in ("train/loss", "val/loss", "val/accuracy", self.monitor) if name in metrics]
        numbers = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in dict.fromkeys(shown))
        if trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch}/{(trainer.max_epochs or 0) - 1}  {numbers}", flush=True)


class Checkpoints(Checkpoint):
    """`best.ckpt` by the monitored metric, `last.ckpt` after each epoch, and `last.ckpt` before the first.

    The early one makes a run resumable that dies in its first epoch. Lightning's own ModelCheckpoint writes the last
    one only in epochs that improve, and forgets the best one if the folder was moved. While the metric is NaN there is
    no `best.ckpt`; a run that ends so uses its last checkpoint instead.

    Args:
        folder: Where the files go; created if missing.
        monitor: Metric name.
        mode: `max` or `min`.
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        self.folder, self.monitor, self.sign = folder, monitor, 1 if mode == "max" else -1
        self.best: float | None = None
        self.begun = False  # set when training begins, after a resumed run has loaded its checkpoint

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make every checkpoint be written atomically."""
        trainer.strategy.checkpoint_io = WholeFiles()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the first `last.ckpt` of a new run; end a resumed run that had already stopped early."""
        self.begun = True
        if trainer.current_epoch == 0:
            if trainer.is_global_zero:  # of an earlier run in this folder
                (self.folder / "best.ckpt").unlink(missing_ok=True)
            self._save(trainer, "last.ckpt")
        if any(stopping.wait_count >= stopping.patience for stopping in trainer.early_stopping_callbacks):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the best before the last: a run that dies between the two repeats the epoch and writes it again."""
        value = float(trainer.callback_metrics.get(self.monitor, float("nan")))
        if _validated(trainer) and (value == value if self.best is None else self.sign * (value - self.best) > 0):
            self.best = value
            self._save(trainer, "best.ckpt")
        self._save(trainer, "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back the best value, if its checkpoint is still there."""
        self.best = state_dict["best"] if (self.folder / "best.ckpt").is_file() else None

    def _save(self, trainer: L.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name)


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints with `write_whole`; Lightning itself would use the system's temporary folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; a disk error names the file."""
        write_whole(checkpoint, path)


def _validated(trainer: L.Trainer) -> bool:
    """Return whether validation ran in this epoch."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
