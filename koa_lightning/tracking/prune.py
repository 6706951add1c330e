"""Which checkpoints of a sweep or an experiment can go, and taking them away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from koa_lightning.errors import InputError
from koa_lightning.resume import DONE_FILE
from koa_lightning.tracking.checkpoints import CHECKPOINT_FOLDER
from koa_lightning.tracking.runs import pages

PRUNED_TAG = "checkpoints.pruned"
BEST, REGISTERED, UNFINISHED, NONE = "among the best", "registered model", "not finished", "has none"


@dataclass(frozen=True)
class Judged:
    """A run, and what is to become of its checkpoints.

    Attributes:
        run: With its metrics.
        value: Of the metric that decides; NaN where it was never measured.
        kept: Why they stay (`BEST`, ...), or an empty string where they can go.
        stored: Bytes among its artifacts in MLflow.
        folder: Its run folder's checkpoints, if they are on this machine and still its own.
        local: Bytes in that folder.
    """

    run: Run
    value: float
    kept: str
    stored: int
    folder: Path | None
    local: int

    @property
    def size(self) -> int:
        """Return the bytes of all its checkpoints."""
        return self.stored + self.local


def judge(client: MlflowClient, runs: Sequence[Run], keep: int, metric: str, mode: str) -> list[Judged]:
    """Say of each run whether its checkpoints stay, the best first.

    Those of registered models and of runs that have not finished (and so can go on) stay, whatever their value; the
    best `keep` are counted among the rest that have checkpoints.

    Args:
        client: Of the store.
        runs: Of a sweep or an experiment.
        keep: How many of the best stay.
        metric: That decides, e.g. best/quadratic_kappa.
        mode: `max` or `min`: which value is best.

    Raises:
        InputError: No run has the metric.
    """
    if not any(metric in run.data.metrics for run in runs):
        raise InputError(f"metric={metric}: no run has it; type one of best/quadratic_kappa, best/mae, best/loss, ...")
    sign = -1 if mode == "max" else 1

    def rank(run: Run) -> tuple[bool, float]:
        value = run.data.metrics.get(metric, float("nan"))
        return value != value, sign * value if value == value else 0.0

    registered = {version.run_id for version in pages(client.search_model_versions)}
    judged, n_best = [], 0
    for run in sorted(runs, key=rank):
        stored = sum(file.file_size or 0 for file in client.list_artifacts(run.info.run_id, CHECKPOINT_FOLDER))
        folder = _folder(run)
        local = sum(file.stat().st_size for file in folder.glob("*.ckpt")) if folder else 0
        kept = ""
        if run.info.run_id in registered:
            kept = REGISTERED
        elif run.info.status != "FINISHED":
            kept = UNFINISHED
        elif not stored + local:
            kept = NONE
        elif n_best < keep:
            kept = BEST
            n_best += 1
        value = run.data.metrics.get(metric, float("nan"))
        judged.append(Judged(run, value, kept, stored, folder, local))
    return judged


def remove(client: MlflowClient, one: Judged) -> None:
    """Delete the checkpoints of a run, in MLflow and in its run folder, and tag the run.

    Raises:
        InputError: The store does not let it.
    """
    run = one.run
    current = client.get_run(run.info.run_id).info.status
    if one.kept or current != "FINISHED":  # it may have been resumed since it was judged
        raise InputError(f"run {run.info.run_name} ({run.info.run_id}): its checkpoints stay: {one.kept or current}")
    client.set_tag(run.info.run_id, PRUNED_TAG, "true")
    try:
        if one.stored:
            repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)
            repository.delete_artifacts(CHECKPOINT_FOLDER)
    except (MlflowException, NotImplementedError, OSError) as error:
        raise InputError(f"run {run.info.run_id}: its artifacts cannot be deleted: {error}") from error
    if one.folder:
        shutil.rmtree(one.folder)


def _folder(run: Run) -> Path | None:
    """Return the checkpoints in the run folder if this machine has it, and no other run took its place."""
    folder = Path(run.data.params.get("out", "")).absolute()
    done = folder / DONE_FILE
    if not run.data.params.get("out") or not done.is_file() or not (folder / CHECKPOINT_FOLDER).is_dir():
        return None
    its_own = json.loads(done.read_text()).get("run_id") == run.info.run_id
    return folder / CHECKPOINT_FOLDER if its_own else None
