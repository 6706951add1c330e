"""Write entries to MLflow: each kind of entry has one handler, and repeating a handler does no harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT
from sqlalchemy.exc import SQLAlchemyError

from koa_lightning.tracking.entries import RESUMED
from koa_lightning.tracking.spool import Entry
from koa_lightning.tracking.store import cause, first_line

_METRICS_A_CALL, _PAIRS_A_CALL = 1000, 100  # MLflow's limits of one log_batch
_DIGEST_LENGTH = 36
_REFUSED = {
    "BAD_REQUEST",
    "ENDPOINT_NOT_FOUND",
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "MALFORMED_REQUEST",
    "NOT_IMPLEMENTED",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
    "UNAUTHENTICATED",
}


@dataclass
class Delivery:
    """The result of a delivery.

    Attributes:
        left: The entries that are not in MLflow, in their order.
        outage: Why the store accepted nothing more, or an empty string.
        refused: Why the store, which does answer, refused entries.
    """

    left: list[Entry] = field(default_factory=list)
    outage: str = ""
    refused: list[str] = field(default_factory=list)


def deliver(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> Delivery:
    """Write entries to a run in their order, neighbours of the same kind together.

    An entry that the store refuses is skipped; when the store fails, all entries not yet written are left.

    Args:
        client: A client of the run's store.
        run_id: MLflow's id of the run.
        entries: What to write.
    """
    result = Delivery()
    groups = [list(group) for _, group in groupby(entries, key=lambda entry: entry["op"])]
    while groups:
        group = groups.pop(0)
        try:
            HANDLERS[group[0]["op"]](client, run_id, group)
        except Exception as error:  # whatever it is, the training continues and the entry is kept
            if _is_outage(error):
                result.outage = cause(error)
                result.left += [entry for rest in [group, *groups] for entry in rest]
                return result
            if len(group) > 1:  # one bad entry must not keep its neighbours out
                groups[:0] = [[entry] for entry in group]
                continue
            result.left += group
            result.refused.append(f"{group[0]['op']}: {first_line(error)}")
    return result


def _is_outage(error: Exception) -> bool:
    if isinstance(error, MlflowException):
        return error.error_code not in _REFUSED
    return isinstance(error, requests.RequestException | SQLAlchemyError | ConnectionError | TimeoutError)


def _metrics(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    metrics = [
        Metric(name, value, entry["time"], entry["step"])
        for entry in entries
        for name, value in entry["values"].items()
    ]
    for some in _chunks(metrics, _METRICS_A_CALL):
        client.log_batch(run_id, metrics=some, synchronous=True)


def _params(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    """Log new parameters; MLflow lets no parameter change, so a change becomes a tag `resumed.NAME`."""
    for entry in entries:
        data = client.get_run(run_id).data
        new, changed = [], []
        for name, value in entry["values"].items():
            if name not in data.params:
                new.append(Param(name, value))
            elif data.params[name] != value or f"{RESUMED}{name}" in data.tags:
                changed.append(RunTag(f"{RESUMED}{name}", value))
        for params in _chunks(new, _PAIRS_A_CALL):
            client.log_batch(run_id, params=params, synchronous=True)
        for tags in _chunks(changed, _PAIRS_A_CALL):
            client.log_batch(run_id, tags=tags, synchronous=True)


def _tags(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    merged = {name: value for entry in entries for name, value in entry["values"].items()}
    for tags in _chunks([RunTag(name, value) for name, value in merged.items()], _PAIRS_A_CALL):
        client.log_batch(run_id, tags=tags, synchronous=True)


def _artifacts(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        client.log_artifact(run_id, entry["local"], entry["folder"])


def _texts(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        client.log_text(run_id, entry["text"], entry["file"])


def _datasets(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    inputs = [
        DatasetInput(
            Dataset(
                name=entry["name"],
                digest=entry["digest"][:_DIGEST_LENGTH],
                source_type="local",
                source=json.dumps({"uri": entry["source"]}),
                profile=json.dumps(entry["profile"] | {"digest": entry["digest"]}),
            ),
            [InputTag(MLFLOW_DATASET_CONTEXT, entry["context"])],
        )
        for entry in entries
    ]
    client.log_inputs(run_id, inputs)


def _status(client: MlflowClient, run_id: str, entries: Sequence[Entry]) -> None:
    for entry in entries:
        client.set_terminated(run_id, entry["status"], entry["time"])


HANDLERS: dict[str, Callable[[MlflowClient, str, Sequence[Entry]], None]] = {
    "metrics": _metrics,
    "params": _params,
    "tags": _tags,
    "artifact": _artifacts,
    "text": _texts,
    "dataset": _datasets,
    "status": _status,
}


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
