"""Pass what the Trainer logs to the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from koa_lightning.tracking.none import NoRun
from koa_lightning.tracking.run import MlflowRun


class MlflowLogger(Logger):
    """A thin logger over a run; whoever started the run closes it.

    Metrics of an epoch get the epoch as their step, so that runs of different batch sizes can be
    overlaid; metrics without an epoch, and those ending in `_step`, keep Lightning's count of optimizer
    steps.

    Args:
        run: The run, or a stand-in that writes nothing.
        save_dir: The run folder.
    """

    def __init__(self, run: MlflowRun | NoRun, save_dir: str | None = None) -> None:
        super().__init__()
        self._run = run
        self._save_dir = save_dir

    @property
    def experiment(self) -> MlflowRun | NoRun:
        """The run."""
        return self._run

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self._run.experiment

    @property
    def version(self) -> str:
        """The id of the run."""
        return self._run.run_id

    @property
    def save_dir(self) -> str | None:
        """The run folder."""
        return self._save_dir

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics; `epoch` among them is the step of all that do not end in `_step`."""
        epoch = metrics.get("epoch")
        count = int(step or 0)
        by_count = {name: value for name, value in metrics.items() if epoch is None or name.endswith("_step")}
        by_epoch = {name: value for name, value in metrics.items() if name not in by_count and name != "epoch"}
        if by_count:
            self._run.log_metrics(by_count, count)
        if by_epoch and epoch is not None:
            self._run.log_metrics(by_epoch, int(epoch))

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run holds the whole resolved configuration."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Do nothing: figures and checkpoints follow after the training, and then the run is closed."""
