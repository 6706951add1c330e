"""Training from Python: `koa_lightning.train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koa_lightning.config import run_folder
from koa_lightning.config.allocator import tune_allocator
from koa_lightning.config.from_python import check_texts, composed
from koa_lightning.config.outcome import DONE
from koa_lightning.config.overrides import key
from koa_lightning.training import resuming, run


@dataclass(frozen=True)
class Training:
    """The result of a training.

    Attributes:
        metrics: Metrics of the best epoch: `val/quadratic_kappa`, `val/accuracy`, ..., `train/loss`.
        best_epoch: Its number, from 0.
        checkpoint: The best checkpoint; None where the run was interrupted.
        folder: The run folder: checkpoints, figures, history.csv, manifest.parquet.
        run_id: Id of the MLflow run; empty with `tracking=none`.
        caveats: Caveats that every figure must show, e.g. phantom data.
        finished: False where the run was interrupted; `train(f"ckpt={folder}/checkpoints/last.ckpt")` resumes it.
    """

    metrics: Mapping[str, float]
    best_epoch: int | None
    checkpoint: Path | None
    folder: Path
    run_id: str
    caveats: tuple[str, ...]
    finished: bool


def train(*overrides: str) -> Training:
    """Train a network, as `python -m koa_lightning.train` does with the same overrides.

    It tunes the memory allocator of this process for training, which keeps the memory that it once used.

    Args:
        overrides: As typed, e.g. `"model=efflite0"`, `"data=chen2018"`, `"data.root=FOLDER"`, `"tracking=none"`;
            `"ckpt=last"` resumes the newest run that has not finished. A sweep (`-m`) is for the command line.

    Returns:
        Metrics, files and the id of the run.

    Raises:
        InputError: A problem that the user can fix.
    """
    check_texts(overrides)
    typed = run_folder.with_old_overrides(list(overrides))
    cfg = composed("train", typed)
    tune_allocator()
    folder = Path(cfg.out)
    if cfg.ckpt is None:
        resuming.check_free(folder)
        run_folder.remember(folder, [each for each in typed if not key(each).startswith("hydra.")])  # to resume it
    return _training(run.train(cfg), folder)


def _training(result: Mapping[str, Any], folder: Path) -> Training:
    names = [name for name in result if name.startswith(("val/", "train/"))]
    best = result.get("checkpoint")
    epoch = result.get("best_epoch", result.get("epoch"))
    return Training(
        metrics={name: float(result[name]) for name in names},
        best_epoch=None if epoch is None else int(epoch),
        checkpoint=Path(best) if best else None,
        folder=folder,
        run_id=str(result.get("run_id") or ""),
        caveats=tuple(result.get("marks") or ()),
        finished=result.get("exit_code", DONE) == DONE,
    )
