"""Find a checkpoint by the address of its run or of its registered model."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from koa_lightning.errors import InputError
from koa_lightning.tracking.artifacts import check_path
from koa_lightning.tracking.registry import checkpoint_of
from koa_lightning.tracking.store import failing_as_input_error, open_store, public

CHECKPOINT_FOLDER = "checkpoints"
"""Folder of the checkpoints among the artifacts of a run."""
BEST = f"{CHECKPOINT_FOLDER}/best.ckpt"
_ADDRESS = re.compile(r"runs:/(?P<run_id>[0-9a-f]{32})(?:/(?P<path>.*))?")


def find_checkpoint(
    uri: str, tracking_uri: str | None = None, folder: Path = Path("mlruns"), into: Path | None = None
) -> Path:
    """Return a local file with the checkpoint of a run, downloaded if need be.

    Args:
        uri: `runs:/ID/path/in/the/artifacts.ckpt`; `runs:/ID` alone means the best checkpoint; or `models:/NAME@ALIAS`
            or `models:/NAME/VERSION`, of a model that `koa_lightning.register` stored.
        tracking_uri: As for `open_store`.
        folder: As for `open_store`; nothing is created there.
        into: Where a copy goes; None takes the file itself if it is on this machine, else a temporary folder.

    Raises:
        InputError: A malformed address, an unknown run or model, no such checkpoint, or a store that fails.
    """
    if uri.startswith("models:/"):
        return find_checkpoint(
            checkpoint_of(open_store(tracking_uri, folder, create=False), uri), tracking_uri, folder, into
        )
    found = _ADDRESS.fullmatch(uri)
    if not found:
        raise InputError(f"{uri}: must be runs:/ID or runs:/ID/{BEST}, with the 32 letters and digits of the run's id")
    run_id, path = found["run_id"], check_path((found["path"] or "").strip("/") or BEST, uri)
    store = open_store(tracking_uri, folder, create=False)
    client = store.client()
    try:
        artifacts = client.get_run(run_id).info.artifact_uri
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise InputError(f"{uri}: no such run in {public(store.uri)}; is tracking.uri right?") from error
        raise InputError(f"{uri}: {error}") from error
    with failing_as_input_error(uri):
        _check_listed(client, run_id, path, uri)
        if into is None and artifacts.startswith("file:"):
            return Path(local_file_uri_to_path(artifacts)) / path
        if into is not None:
            into.mkdir(parents=True, exist_ok=True)
        return Path(client.download_artifacts(run_id, path, str(into) if into else None))


def fold_addresses(address: str, tracking_uri: str | None = None, folder: Path = Path("mlruns")) -> list[str]:
    """Return the addresses of the folds of a cross-validation's run, in fold order; empty for any other run.

    Args:
        address: `runs:/ID`; with a path after the id, it names a file of that run, not its folds.
        tracking_uri: As for `open_store`.
        folder: As for `open_store`; nothing is created there.

    Raises:
        InputError: A fold is missing, or a store fails.
    """
    found = _ADDRESS.fullmatch(address)
    if not found or found["path"]:
        return []
    store = open_store(tracking_uri, folder, create=False)
    client = store.client()
    with failing_as_input_error(address):
        if not store.has_run(found["run_id"]):
            return []
        run = client.get_run(found["run_id"])
        n_folds = run.data.params.get("data.folds", "null")
        children = client.search_runs(
            [run.info.experiment_id],
            f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'",
            order_by=["start_time ASC"],
        )
    if n_folds == "null" or not children:
        return []
    done = {
        child.data.params.get("data.fold"): child.info.run_id for child in children if child.info.status == "FINISHED"
    }
    missing = [fold for fold in range(int(n_folds)) if str(fold) not in done]
    if missing:
        raise InputError(
            f"{address}: fold {missing[0]} of {n_folds} has not finished; finish the cross-validation first"
        )
    return [f"runs:/{done[str(fold)]}" for fold in range(int(n_folds))]


def _check_listed(client: MlflowClient, run_id: str, path: str, uri: str) -> None:
    parent = str(Path(path).parent.as_posix())
    files = [item.path for item in client.list_artifacts(run_id, None if parent == "." else parent) if not item.is_dir]
    if path not in files:
        known = f"it holds {', '.join(files)}" if files else f"{parent}/ is empty"
        raise InputError(f"{uri}: the run has no {path}; {known}")
