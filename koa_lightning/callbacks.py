"""What happens beside the training steps: the history, the panels, and one line an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
from lightning.pytorch.callbacks import Callback, ModelCheckpoint


class History(Callback):
    """Keeps every epoch's metrics, through a resume too, and writes them to `history.csv`.

    Args:
        file: The CSV: epoch, name (`PART/NAME`), value.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.epochs: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the epoch's metrics; it runs before the checkpoint is written."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if "/" in name}
        self.epochs = [row for row in self.epochs if row["epoch"] < trainer.current_epoch]
        self.epochs.append({"epoch": trainer.current_epoch, **values})
        if trainer.is_global_zero:
            self.table().to_csv(self.file, index=False)

    def table(self) -> pd.DataFrame:
        """Return epoch, name, value; one row each."""
        rows = [
            (int(row["epoch"]), name, value) for row in self.epochs for name, value in row.items() if name != "epoch"
        ]
        return pd.DataFrame(rows, columns=["epoch", "name", "value"])

    def best(self, monitor: str, mode: str) -> dict[str, float]:
        """Return the metrics of the first best epoch, as the checkpoint was chosen; empty before the first."""
        known = [row for row in self.epochs if row.get(monitor) == row.get(monitor)]
        if not known:
            return {}
        sign = 1 if mode == "max" else -1
        return max(known, key=lambda row: sign * row.get(monitor, -sign * float("inf")))

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what a checkpoint kept."""
        self.epochs = list(state_dict["epochs"])


class EveryNEpochs(Callback):
    """Calls a function after the validation of every n-th epoch, with the weights that were validated.

    Put it before the weight average among the callbacks: that one takes the averaged weights away again.
    """

    def __init__(self, n: int, function: Callable[[L.LightningModule, int], None]) -> None:
        self.n, self.function = n, function

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Call it where it is due."""
        if (trainer.current_epoch + 1) % self.n == 0 and trainer.is_global_zero:
            self.function(pl_module, trainer.current_epoch)


class OneLineAnEpoch(Callback):
    """Prints the main numbers of each epoch, for logs."""

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line."""
        metrics = trainer.callback_metrics
        shown = [name for name in ("train/loss", "val/loss", "val/accuracy", self.monitor) if name in metrics]
        numbers = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in dict.fromkeys(shown))
        if trainer.is_global_zero:
            print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {numbers}", flush=True)


class Checkpoints(ModelCheckpoint):
    """`best.ckpt` by the monitored metric and `last.ckpt` after each epoch, and `last.ckpt` before the first.

    The early one makes a run resumable that dies in its first epoch.
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_last=True,
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the first `last.ckpt` of a new run."""
        super().on_train_start(trainer, pl_module)
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(str(Path(str(self.dirpath)) / "last.ckpt"))
