"""Choose which checkpoints of a sweep or an experiment to delete, and delete them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from koa_lightning.config import json_files, run_files, trial
from koa_lightning.config.run_folder import DONE_FILE, holding, is_running
from koa_lightning.errors import InputError
from koa_lightning.tracking.artifacts import check as check_artifacts
from koa_lightning.tracking.checkpoints import CHECKPOINT_FOLDER
from koa_lightning.tracking.runs import pages, search

PRUNED_TAG = "checkpoints.pruned"
BEST, REGISTERED, UNFINISHED, NONE = "among the best", "registered model", "not finished", "no checkpoints"
MEMBER = "of an ensemble"


@dataclass(frozen=True)
class Candidate:
    """A run, and whether its checkpoints stay.

    Attributes:
        run: With its metrics.
        value: Value of the metric that decides; NaN if the run has none.
        kept: Why they stay (`BEST`, ...), or an empty string if they can go.
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


def choose(client: MlflowClient, runs: Sequence[Run], keep: int, metric: str, mode: str) -> list[Candidate]:
    """Decide for each run whether its checkpoints stay, best run first.

    Those of registered models, of ensembles and of unfinished runs (which can resume) stay, whatever their value; the
    best `keep` are counted among the other runs that have checkpoints.

    Args:
        client: Client of the store.
        runs: Runs of a sweep or an experiment.
        keep: How many of the best stay.
        metric: The metric that decides, e.g. best/quadratic_kappa.
        mode: `max` or `min`: which value is best; empty if unknown.

    Raises:
        InputError: No run has the metric, or its best value is not known.
    """
    if not any(metric in run.data.metrics for run in runs):
        raise InputError(f"metric={metric}: no run has it; type one of best/quadratic_kappa, best/mae, best/loss, ...")
    if not mode:
        raise InputError(
            f"metric={metric}: its best direction (max or min) is unknown; type one of best/quadratic_kappa, "
            "best/mae, test/brier, ..."
        )
    sign = -1 if mode == "max" else 1

    def rank(run: Run) -> tuple[bool, float]:
        value = run.data.metrics.get(metric, float("nan"))
        return value != value, sign * value if value == value else 0.0

    registered = {version.run_id for version in pages(client.search_model_versions)}
    members = _members(client, runs)
    candidates, n_best = [], 0
    for run in sorted(runs, key=rank):
        stored = sum(file.file_size or 0 for file in client.list_artifacts(run.info.run_id, CHECKPOINT_FOLDER))
        out, folder = _out(run), _folder(run)
        local = sum(file.stat().st_size for file in folder.glob("*.ckpt")) if folder else 0
        kept = ""
        if run.info.run_id in registered:
            kept = REGISTERED
        elif run.info.run_id in members:
            kept = MEMBER
        elif run.info.status != "FINISHED" or (out and is_running(out)):  # a resumed run changes its status late
            kept = UNFINISHED
        elif not stored + local:
            kept = NONE
        elif n_best < keep:
            kept = BEST
            n_best += 1
        value = run.data.metrics.get(metric, float("nan"))
        candidates.append(Candidate(run, value, kept, stored, folder, local))
    return candidates


def remove(client: MlflowClient, one: Candidate) -> None:
    """Delete the checkpoints of a run, in MLflow and in its run folder, and tag the run.

    Raises:
        InputError: The store refuses it, or a process trains in the run folder.
    """
    out = _out(one.run)
    with holding(out) if out else nullcontext():  # so that nobody resumes it meanwhile
        _remove(client, one)


def _remove(client: MlflowClient, one: Candidate) -> None:
    run = one.run
    current = client.get_run(run.info.run_id).info.status
    if one.kept or current != "FINISHED":  # it may have been resumed since the choice
        raise InputError(f"run {run.info.run_name} ({run.info.run_id}): its checkpoints stay: {one.kept or current}")
    client.set_tag(run.info.run_id, PRUNED_TAG, "true")
    try:
        if one.stored:
            check_artifacts(client.tracking_uri, run.info.artifact_uri, f"run {run.info.run_id}")
            repository = get_artifact_repository(run.info.artifact_uri, tracking_uri=client.tracking_uri)
            repository.delete_artifacts(CHECKPOINT_FOLDER)
    except (MlflowException, NotImplementedError, OSError) as error:
        raise InputError(f"run {run.info.run_id}: its artifacts cannot be deleted: {error}") from error
    if one.folder:
        shutil.rmtree(one.folder)


def _members(client: MlflowClient, runs: Sequence[Run]) -> set[str]:
    """Return the ids of the members of ensembles: of those evaluated, and of those that sweeps end with."""
    ensembles = search(client, "tags.evaluates LIKE '%, %'")  # a single checkpoint has no comma
    found = {run_id for run in ensembles for run_id in run.data.tags["evaluates"].split(", ")}
    sweeps = {run.info.run_id for run in search(client, f"tags.`{trial.ENSEMBLE_TAG}` = 'true'")}
    trials = [run for run in runs if run.data.tags.get(MLFLOW_PARENT_RUN_ID) in sweeps]
    return found | {run.info.run_id for run in trials if run.data.tags.get(trial.STATE_TAG) != trial.PRUNED}


def _out(run: Run) -> Path | None:
    """Return the run folder, if this machine has it."""
    folder = Path(run.data.params.get("out", "")).absolute()
    return folder if run.data.params.get("out") and folder.is_dir() else None


def _folder(run: Run) -> Path | None:
    """Return the checkpoints in the run folder if this machine has it and no other run has replaced it."""
    folder = _out(run)
    if folder is None or not (folder / CHECKPOINT_FOLDER).is_dir():
        return None
    done = folder / DONE_FILE
    if not done.is_file():
        return None
    its_own = json_files.read(done, run_files.OF_RUN, "omit it, or remove that file")["run_id"] == run.info.run_id
    return folder / CHECKPOINT_FOLDER if its_own else None
