"""A checkpoint by the address of its run or of its registered model."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from koa_lightning.errors import InputError
from koa_lightning.tracking.store import failing_as_input_error, open_store, public

CHECKPOINT_FOLDER = "checkpoints"
"""Where the checkpoints of a run lie among its artifacts."""
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
        folder: As for `open_store`; nothing is made there.
        into: Where a copy goes; None takes the file itself if it is on this machine, else a temporary folder.

    Raises:
        InputError: A malformed address, an unknown run or model, no such checkpoint, or a store that fails.
    """
    if uri.startswith("models:/"):
        from koa_lightning.tracking.registry import checkpoint_of

        return find_checkpoint(
            checkpoint_of(open_store(tracking_uri, folder, create=False), uri), tracking_uri, folder, into
        )
    found = _ADDRESS.fullmatch(uri)
    if not found:
        raise InputError(f"{uri}: must be runs:/ID or runs:/ID/{BEST}, with the 32 letters and digits of the run's id")
    run_id, path = found["run_id"], (found["path"] or "").strip("/") or BEST
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


def _check_listed(client: MlflowClient, run_id: str, path: str, uri: str) -> None:
    parent = str(Path(path).parent.as_posix())
    files = [item.path for item in client.list_artifacts(run_id, None if parent == "." else parent) if not item.is_dir]
    if path not in files:
        known = f"it holds {', '.join(files)}" if files else f"nothing is in {parent}/"
        raise InputError(f"{uri}: the run has no {path}; {known}")
