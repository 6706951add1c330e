"""Check where the artifacts of a run lie: whoever wrote the database could name any folder or server."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import FileInfo
from mlflow.utils.file_utils import local_file_uri_to_path

from koa_lightning.config.places import user_path
from koa_lightning.config.trusted import shown
from koa_lightning.errors import InputError

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_OF_SERVER = {"mlflow-artifacts", "http", "https"}
_CLOUD = {"s3", "gs", "wasb", "wasbs", "abfs", "abfss", "r2", "b2", "dbfs", "hdfs", "viewfs"}


class GuardedClient(MlflowClient):
    """A client that reads and writes artifacts only where `check` allows it.

    Args:
        uri: Address of the store, as `Store.uri`.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._uri = uri
        self._checked: set[str] = set()

    def check_artifacts(self, run_id: str) -> None:
        """Check that the artifacts of a run lie with its store.

        Raises:
            InputError: They lie elsewhere.
        """
        if run_id not in self._checked:
            check(self._uri, self.get_run(run_id).info.artifact_uri, f"run {run_id}")
            self._checked.add(run_id)

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """Check, then call MLflow's method."""
        self.check_artifacts(run_id)
        super().log_artifact(run_id, local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        """Check, then call MLflow's method."""
        self.check_artifacts(run_id)
        super().log_artifacts(run_id, local_dir, artifact_path)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """Check, then call MLflow's method."""
        self.check_artifacts(run_id)
        return super().list_artifacts(run_id, path)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Check, then call MLflow's method."""
        self.check_artifacts(run_id)
        return super().download_artifacts(run_id, path, dst_path)


def check(store: str, location: str, what: str) -> None:
    """Check that artifacts lie with their store.

    The artifacts of a database lie in its folder, or in `mlruns` below the current folder (MLflow's default). Those of
    a server lie on it (MLflow sends its user and password there), in a cloud storage that it names, or, if the server
    runs on this machine, in any folder.

    Args:
        store: The address of the store.
        location: The place of the artifacts according to the store.
        what: The owner of the artifacts, for the message.

    Raises:
        InputError: The artifacts lie elsewhere.
    """
    parts, own = urlsplit(location), urlsplit(store)
    scheme = parts.scheme.lower()
    if own.scheme.startswith("sqlite"):
        folder = Path(store.partition("sqlite:///")[2]).parent
        fine = scheme in ("", "file") and _is_within(location, (folder, Path("mlruns")))
        where = f"outside of {folder}"
    else:
        where = f"not with {shown(store)}"
        if scheme in _OF_SERVER:
            fine = not parts.netloc or _host(parts.netloc) == _host(own.netloc)
        elif scheme in ("", "file"):
            fine = (own.hostname or "") in _LOOPBACK
        else:
            fine = scheme in _CLOUD
    if not fine:
        raise InputError(
            f"{what}: its artifacts lie in {shown(location)}, {where}; nothing is read or written there: name another "
            "tracking.experiment or tracking.uri, or correct the place in the database"
        )


def check_path(path: str, what: str) -> str:
    r"""Return the path of a file among the artifacts of a run, if it is valid.

    Args:
        path: E.g. `checkpoints/best.ckpt`.
        what: The source of the path, for the message.

    Raises:
        InputError: The path is absolute, or contains `..`.
    """
    parts = path.replace("\\", "/").split("/")
    if not path or ".." in parts or not parts[0] or parts[0].endswith(":") or not path.isprintable():
        raise InputError(
            f"{what}: {shown(path)} is not a path among the artifacts of a run; give a relative path without .."
        )
    return path


def _is_within(location: str, folders: tuple[Path, ...]) -> bool:
    # Compares names without resolving links: the user may have linked artifacts/ to a larger disk.
    if urlsplit(location).netloc not in ("", "localhost"):
        return False
    path = Path(os.path.normpath(Path(local_file_uri_to_path(location)).absolute()))
    return any(path.is_relative_to(os.path.normpath(user_path(folder).absolute())) for folder in folders)


def _host(netloc: str) -> str:
    return netloc.rpartition("@")[2].lower()
