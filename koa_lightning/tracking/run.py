"""One MLflow run, written without making the training wait."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.context.git_context import GitRunContext
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from koa_lightning.config import signals, trusted
from koa_lightning.errors import InputError
from koa_lightning.tracking import owner, unsent
from koa_lightning.tracking.artifacts import check as check_artifacts
from koa_lightning.tracking.deliver import deliver
from koa_lightning.tracking.entries import (
    PARAM_LENGTH,
    RESUMED,
    TAG_LENGTH,
    as_text,
    flatten,
    now_ms,
    pairs,
    valid_name,
)
from koa_lightning.tracking.history import History
from koa_lightning.tracking.sender import Sender
from koa_lightning.tracking.spool import FILE, Entry, Spool, summary
from koa_lightning.tracking.store import Store, failing_as_input_error, public
from koa_lightning.tracking.system import SYSTEM_PREFIX, QueuedSystemMetrics

_log = logging.getLogger(__name__)


class MlflowRun:
    """A run in a store. Every `log_*` returns at once; always call `close`, even after an error.

    Attributes:
        run_id: MLflow's id.
        name: The name shown in the list of runs.
        experiment: The name of its experiment.
        experiment_id: MLflow's id of it.
        uri: MLflow's tracking URI, without a password.
        attached: Whether the run is only added to, so that its status does not change.
    """

    attached: bool = False

    def __init__(self, run: Run, experiment: str, uri: str, sender: Sender, history: History, folder: Path) -> None:
        self.run_id: str = run.info.run_id
        self.name: str = run.info.run_name
        self.experiment = experiment
        self.experiment_id: str = run.info.experiment_id
        self.uri = public(uri)
        self._uri = uri
        self._sender = sender
        self._history = history
        self._folder = folder
        self._system: QueuedSystemMetrics | None = None
        self._ending = False
        self._missing: list[str] | None = None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a resolved configuration as `a.b.c -> value`.

        Values of more than 6000 characters become text artifacts, named in their place. MLflow lets no
        parameter change: on a resumed run a changed value becomes a tag `resumed.NAME`.
        """
        self._put(*pairs("params", flatten(params), PARAM_LENGTH))

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log numbers (floats or tensors of one value) at a step."""
        values = {valid_name(name): float(value) for name, value in metrics.items()}
        self._history.add(values, step)
        self._put_metrics(values, step)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; values of more than 8000 characters become text artifacts, named in their place."""
        values = {valid_name(name): as_text(value) for name, value in tags.items()}
        self._put(*pairs("tags", values, TAG_LENGTH))

    def log_artifact(self, local: Path, folder: str | None = None) -> None:
        """Upload a file or a folder into a folder of the run; it must stay in place until `close` returns."""
        self._put({"op": "artifact", "local": str(Path(local).absolute()), "folder": folder})

    def log_text(self, text: str, file: str) -> None:
        """Write a text as an artifact, e.g. `config.yaml`."""
        self._put({"op": "text", "text": text, "file": file})

    def log_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None:
        """Log a dataset as an input of the run.

        Args:
            name: Shown in the list of runs.
            digest: The fingerprint; MLflow shows its first 36 characters, the profile holds all.
            source: Where the images lie.
            profile: Numbers and strings, e.g. the number of knees of each grade in each split.
            context: What it was used for, e.g. "training".
        """
        values = {
            "name": name,
            "digest": digest,
            "source": source,
            "profile": dict(profile),
            "context": context,
        }
        self._put({"op": "dataset", **values})

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return (step, value) of each metric, for a resumed run from its first epoch."""
        return self._history.rows()

    def end_children(self) -> None:
        """Mark as killed the child runs that a killed process left running.

        Raises:
            InputError: The store fails.
        """
        client = MlflowClient(self._uri)
        left = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}' and attributes.status = 'RUNNING'"
        with failing_as_input_error(f"run in {self.uri}"):
            for child in client.search_runs([client.get_run(self.run_id).info.experiment_id], left):
                client.set_terminated(child.info.run_id, "KILLED")

    def delete_if_childless(self) -> bool:
        """Delete the run if it has no children, as its sweep produced nothing; return whether it was deleted.

        Raises:
            InputError: The store fails.
        """
        client = MlflowClient(self._uri)
        children = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}'"
        with failing_as_input_error(f"run in {self.uri}"):
            if client.search_runs([client.get_run(self.run_id).info.experiment_id], children, max_results=1):
                return False
            client.delete_run(self.run_id)
        return True

    def close(self, status: str = "FINISHED") -> list[str]:
        """End the run and wait until all is delivered, or known to be undeliverable now.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".

        Returns:
            What was not delivered, e.g. `["12 metrics", "1 status"]`; one line of the log says so too, with
            the command that sends it later. Empty if everything was delivered.
        """
        if not self._ending:  # a second call after an interrupt only waits
            self._ending = True
            if self._system is not None:
                self._system.finish()
            if not self.attached:
                self._put({"op": "status", "status": status, "time": now_ms()})
        if self._missing is None:
            try:
                left = self._sender.close(signals.seconds_left())
            except KeyboardInterrupt:
                self._say_missing(summary(self._sender.waiting()), summary(self._sender.unwritten))
                raise
            self._missing = summary(left)
            self._say_missing(self._missing, summary(self._sender.unwritten))
        return self._missing

    def _say_missing(self, missing: list[str], lost: list[str]) -> None:
        note = f" (LOST, the disk did not accept: {', '.join(lost)})" if lost else ""
        server = self.uri.startswith("http") and not trusted.is_same(os.environ.get(trusted.VARIABLE), self.uri)
        address = f" uri={shlex.quote(self.uri)}" if server else ""
        command = f"python -m koa_lightning.tracking.resend {shlex.quote(str(self._folder))}{address}"
        if missing:
            _log.error("NOT LOGGED in %s: %s%s; send it later: %s", self.uri, ", ".join(missing), note, command)

    def _watch_system(self, resumed: bool) -> None:
        self._system = QueuedSystemMetrics(self.run_id, self._uri, resumed, self._put_metrics)
        self._system.start()

    def _put_metrics(self, values: Mapping[str, float], step: int) -> None:
        self._put({"op": "metrics", "values": dict(values), "step": step, "time": now_ms()})

    def _put(self, *entries: Entry) -> None:
        for entry in entries:
            self._sender.put(entry)


def start_run(
    store: Store,
    experiment: str,
    name: str | None,
    run_folder: Path,
    run_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    parent: str | None = None,
    system_metrics: bool = False,
    attach: bool = False,
    client: MlflowClient | None = None,
) -> MlflowRun:
    """Start a run, or resume one.

    Args:
        store: From `open_store`.
        experiment: The name of the experiment; created if needed.
        name: The name of the run; None lets MLflow make one up, or keeps the name of a resumed run.
        run_folder: Where undelivered entries are kept.
        run_id: The run to resume.
        tags: E.g. `run_facts()` and the user's own.
        parent: The id of the run that this one belongs to, e.g. of a cross-validation.
        system_metrics: Whether to log the use of the machine.
        attach: Only add to the run `run_id`: its name, status and times stay unchanged.
        client: Replaces the store's own, e.g. in a test.

    Raises:
        InputError: When the run to resume, or the parent, is unknown or deleted; when its artifacts do not lie with
            its store; when the run folder holds what another run could not log, or what no training writes; or when the
            store fails.
    """
    _check_spool(run_folder / FILE, run_id)
    client = client or store.client()
    tags = {**(tags or {}), **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
    with failing_as_input_error(f"run in {public(store.uri)}"):
        if parent and not run_id:
            _check_parent(client, store, parent)
        run = (
            _resume(client, store, run_id, name, attach)
            if run_id
            else _create(client, store.experiment_id(experiment), name, tags | owner.this().tags())
        )
    check_artifacts(store.uri, run.info.artifact_uri, f"run {run.info.run_id} in {store.name}")
    spool = Spool(run_folder, run.info.run_id, store.uri)
    if run_id and not attach and spool:  # it resumes, so the status of an earlier start no longer holds
        spool.replace([entry for entry in spool.read() if entry["op"] != "status"])
    sender = Sender(partial(deliver, client, run.info.run_id), spool, store.why_unreachable)
    past = _past(client, run.info.run_id) if run_id else {}
    tracked = MlflowRun(run, experiment, store.uri, sender, History(past), spool.path.parent)
    tracked.attached = attach
    if run_id:  # the settings of the first start stay visible
        known = run.data.tags
        tracked.log_tags({(f"{RESUMED}{k}" if known.get(k, v) != v else k): v for k, v in tags.items()})
    if system_metrics:
        tracked._watch_system(resumed=bool(run_id))
    return tracked


def _check_parent(client: MlflowClient, store: Store, parent: str) -> None:
    try:
        found = client.get_run(parent)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise InputError(f"tracking.parent={parent}: no such run in {public(store.uri)}; give the id of one") from None
    if found.info.lifecycle_stage == "deleted":
        raise InputError(f"tracking.parent={parent}: was deleted; restore it: {store.restore('runs', parent)}")


def _check_spool(file: Path, run_id: str | None) -> None:
    if not file.exists():
        return
    spool = Spool.load(file)
    if spool.run_id != run_id:
        raise InputError(
            f"{file}: holds entries of another run; send them (python -m koa_lightning.tracking.resend "
            f"{shlex.quote(str(file.parent))}), remove the file, or choose another run folder"
        )
    unsent.check(spool)  # the run sends these first


def _create(client: MlflowClient, experiment_id: str, name: str | None, tags: Mapping[str, str]) -> Run:
    # `run_facts` has the commit; MLflow would take the commit of the main script's folder.
    ignored: list[Any] = [GitRunContext]
    return client.create_run(experiment_id, tags=resolve_tags(dict(tags), ignore=ignored), run_name=name)


def _resume(client: MlflowClient, store: Store, run_id: str, name: str | None, attach: bool) -> Run:
    run = client.get_run(run_id)
    if run.info.lifecycle_stage == "deleted":
        raise InputError(f"run {run_id} was deleted; start again, or restore it: {store.restore('runs', run_id)}")
    if attach:
        return run
    # First name its process: another command would close a running run whose process has ended.
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in owner.this().tags().items()])
    client.update_run(run_id, status="RUNNING", name=name)
    return client.get_run(run_id)


def _past(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """Return the metrics that a run has, so that the curves of a resumed run are complete."""
    names = [name for name in client.get_run(run_id).data.metrics if not name.startswith(SYSTEM_PREFIX)]
    return {name: [(row.step, row.value) for row in client.get_metric_history(run_id, name)] for name in names}
