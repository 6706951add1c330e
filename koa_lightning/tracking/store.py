"""Where runs are kept: a sqlite database beside its artifacts, or an MLflow server."""

from __future__ import annotations

import logging
import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from koa_lightning.config.addresses import public
from koa_lightning.config.places import user_path
from koa_lightning.config.trusted import is_run_id
from koa_lightning.errors import InputError
from koa_lightning.tracking import owner, view
from koa_lightning.tracking.artifacts import GuardedClient, check

CHECK_SECONDS = 12.0
"""A server that has not answered by then counts as unreachable."""
_LOCK_SECONDS = 120.0
_log = logging.getLogger(__name__)
# MLflow also prints the traceback of each error that it raises; our caller reports the error in one line.
logging.getLogger("mlflow.store.db.utils").addFilter(lambda record: not record.exc_info)


@dataclass(frozen=True)
class Store:
    """A place that holds runs, ready to be written.

    Attributes:
        uri: MLflow's tracking URI; a sqlite one holds an absolute path.
        artifacts: The folder for the artifacts of new experiments, or None where the server decides.
    """

    uri: str
    artifacts: Path | None

    def client(self) -> MlflowClient:
        """Return a client of this store, independent of MLflow's global state, that keeps to its artifacts."""
        return GuardedClient(self.uri)

    @property
    def name(self) -> str:
        """The store's name in messages: the URI without a password."""
        return public(self.uri)

    def restore(self, what: str, identity: str) -> str:
        """Return the command that restores a deleted run or experiment of this store.

        Args:
            what: `runs` or `experiments`.
            identity: Its id in MLflow.
        """
        option = {"runs": "--run-id", "experiments": "-x"}[what]
        return f"MLFLOW_TRACKING_URI={shlex.quote(self.name)} mlflow {what} restore {option} {identity}"

    def has_run(self, run_id: str) -> bool:
        """Return whether a run is here and not deleted; the id may be any text from a file."""
        if not is_run_id(run_id):
            return False
        try:
            return bool(self.client().get_run(run_id).info.lifecycle_stage == "active")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def close_orphans(self) -> list[str]:
        """Mark as killed the open runs whose process on this machine has ended; return their ids.

        A store that refuses, e.g. a read-only one, stays unchanged.
        """
        client, dead = self.client(), list[str]()
        try:
            experiments = [found.experiment_id for found in client.search_experiments()]
            left = f"attributes.status = 'RUNNING' and tags.`{owner.PREFIX}host` = '{owner.host()}'"
            for run in client.search_runs(experiments, left) if experiments else ():
                process = owner.of(run.data.tags)
                if process is not None and owner.has_ended(process):
                    client.set_terminated(run.info.run_id, "KILLED")
                    dead.append(run.info.run_id)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            _log.info("%s: runs of killed processes stay open (%s)", self.name, first_line(error))
        return dead

    def why_unreachable(self) -> str:
        """Return why the server does not answer, or an empty string; a database file always answers."""
        return why_unreachable(self.uri) if self.artifacts is None else ""

    def experiment_id(self, name: str) -> str:
        """Return the id of the experiment, created if needed; jobs that start together get the same one.

        Raises:
            InputError: When it was deleted, its artifacts lie elsewhere, or the store fails.
        """
        client = self.client()
        location = self.artifacts.as_uri() if self.artifacts else None
        with failing_as_input_error(f"experiment {name!r} in {public(self.uri)}"):
            found = client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(client.create_experiment(name, location, tags=view.tags()))
                except MlflowException:
                    found = client.get_experiment_by_name(name)  # another job was first
                    if found is None:
                        raise
        if found.lifecycle_stage == "deleted":
            raise InputError(
                f"experiment {name!r} in {public(self.uri)} was deleted; set another tracking.experiment, "
                f"or restore it: {self.restore('experiments', found.experiment_id)}"
            )
        check(self.uri, found.artifact_location, f"experiment {name!r} in {self.name}")
        return str(found.experiment_id)


def open_store(uri: str | None, folder: Path, create: bool = True) -> Store:
    """Make a store ready: create the database once, or check that the server answers.

    Args:
        uri: `sqlite:///FILE.db` or `http(s)://HOST:PORT`; None takes the variable MLFLOW_TRACKING_URI, and
            without it `mlflow.db` in the folder. Artifacts of a database lie in `artifacts/` beside it.
        folder: Holds the default database.
        create: Whether to create a missing database (once, about 7 seconds, while parallel jobs wait).

    Raises:
        InputError: Another kind of URI, no answer in 15 seconds, no permission, no space, a damaged database.
    """
    default = f"sqlite:///{(user_path(folder) / 'mlflow.db').absolute().as_posix()}"
    uri = (uri or os.environ.get("MLFLOW_TRACKING_URI") or default).rstrip("/")
    opener = _OPENERS.get(urlsplit(uri).scheme.lower())
    if opener is None:
        raise InputError(
            f"tracking.uri={public(uri)}: must be sqlite:///FILE.db or http(s)://HOST:PORT (MLflow 3 keeps "
            f"no runs in a plain folder); type tracking.uri={default}"
        )
    store = opener(uri, create)
    store.close_orphans()
    return store


def _open_sqlite(uri: str, create: bool) -> Store:
    file = uri.partition("sqlite:///")[2]
    if not file or file == ":memory:":
        raise InputError(f"tracking.uri={uri}: must name a file, sqlite:///FILE.db")
    database = user_path(file).absolute()
    store = Store(f"sqlite:///{database.as_posix()}", database.parent / "artifacts")
    if database.is_dir():  # MLflow would try for minutes
        raise InputError(
            f"tracking.uri={uri}: is a folder; name a file in it: tracking.uri={uri.rstrip('/')}/mlflow.db"
        )
    if not create and not database.is_file():
        raise InputError(f"{database}: no such tracking database; name the right one by tracking.uri=sqlite:///FILE.db")
    with failing_as_input_error(f"tracking database {database}"):
        if create:
            database.parent.mkdir(parents=True, exist_ok=True)
            lock = database.with_name(database.name + ".lock")
            lock.touch()  # filelock would wait in a folder where it cannot create files
            with FileLock(lock, timeout=_LOCK_SECONDS):
                if not database.exists():
                    _create_database(database)
                store.client()  # the first client adds MLflow's default experiment
        store.client().search_experiments(max_results=1)
    return store


def _create_database(database: Path) -> None:
    # Created under another name, so that an interruption leaves no half-made database.
    unfinished = database.with_name(database.name + ".new")
    unfinished.unlink(missing_ok=True)
    engine = create_sqlalchemy_engine(f"sqlite:///{unfinished.as_posix()}")
    try:
        _initialize_tables(engine)
    finally:
        engine.dispose()
    unfinished.replace(database)


def check_server(uri: str) -> None:
    """Check that a server answers.

    Raises:
        InputError: It does not answer.
    """
    reason = why_unreachable(uri)
    if reason:
        raise InputError(
            f"tracking.uri={public(uri)}: the MLflow server does not answer ({reason}); start it, or type tracking=none"
        )


def _open_server(uri: str, create: bool) -> Store:
    store = Store(uri, None)
    check_server(uri)
    with failing_as_input_error(f"MLflow server {public(uri)}"):
        store.client().search_experiments(max_results=1)
    return store


_OPENERS: dict[str, Callable[[str, bool], Store]] = {
    "sqlite": _open_sqlite,
    "http": _open_server,
    "https": _open_server,
}


def why_unreachable(uri: str, seconds: float = CHECK_SECONDS) -> str:
    """Check whether a server answers.

    Args:
        uri: The address of the server.
        seconds: Time after which the server counts as unreachable, even if the name service hangs.

    Returns:
        The reason, or an empty string when the server answers.
    """
    answer = [f"no answer within {seconds:g} seconds"]

    def ask() -> None:
        try:
            for path in ("/health", "/api/2.0/mlflow/experiments/search?max_results=1"):  # the second needs its store
                reply = http_request(
                    get_default_host_creds(uri), path, "GET", timeout=3, max_retries=0, raise_on_status=False
                )
                if reply.status_code >= 500:
                    break
            # Behind a gateway a dead server shows as 502 to 504; 401 or 404 still means that it is alive.
            answer[0] = f"it says {reply.status_code}" if reply.status_code >= 500 else ""
        except (MlflowException, requests.RequestException) as error:
            answer[0] = cause(error)

    # A name service can hang for longer than any timeout of a connection, hence the thread.
    thread = threading.Thread(target=ask, daemon=True, name="mlflow-health")
    thread.start()
    thread.join(seconds)
    return answer[0]


@contextmanager
def failing_as_input_error(what: str, advice: str = "put it right, or type tracking=none") -> Iterator[None]:
    """Turn an error of a store into one line for the user.

    Args:
        what: What fails, for the message.
        advice: The end of the message.

    Raises:
        InputError: In place of an error of MLflow, of the database or of the file system.
    """
    try:
        yield
    except Timeout as error:
        raise InputError(f"{what}: another process has held {error.lock_file} for {_LOCK_SECONDS:g} seconds") from error
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise InputError(f"{what}: {first_line(error)}; {advice}") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error, without SQLAlchemy's class names and without passwords."""
    written = [line for line in str(error).splitlines() if line.strip()]
    # SQLAlchemy's advice to programmers may precede the error itself.
    lines = [line for line in written if not line.startswith("(raised as a result of")] or [type(error).__name__]
    return public(re.sub(r"^\(\w+(\.\w+)*\) ", "", lines[0]).rstrip(" .;"))


def cause(error: Exception) -> str:
    """Return the first line of an error; for a failed connection only the reason."""
    line = first_line(error)
    if "Caused by" not in line:
        return line
    return re.sub(r"[\"']\)+$", "", line.rsplit(": ", 1)[-1])
