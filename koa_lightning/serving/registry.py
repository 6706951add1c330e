"""The model registry: a run's best checkpoint as an MLflow model under a name, and back again."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import NamedTuple

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.serving import mlflow_model
from koa_lightning.tracking.begin import caveat_tags
from koa_lightning.tracking.registry import CHECKPOINT_TAG
from koa_lightning.tracking.runs import ADVICE
from koa_lightning.tracking.store import Store, failing_as_input_error

# MLflow logs that it validates the example; errors of the example are still logged.
logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
_DIGEST_TAG = "checkpoint.blake2b"
# The packages a model needs besides this one, which is on no registry; MLflow lists them for container builds.
_NEEDS = ("mlflow", "torch", "torchvision", "timm", "numpy", "pandas", "pillow", "pydicom", "hydra-core", "omegaconf")


class Registered(NamedTuple):
    """The result of a registration.

    Attributes:
        version: The version of the model.
        is_new: Whether it was created now; the same checkpoint under the same name is stored once.
    """

    version: ModelVersion
    is_new: bool


def register(store: Store, run: Run, read: Checkpoint, name: str, alias: str | None) -> Registered:
    """Store a checkpoint as a version of a registered model.

    Args:
        store: The store of the run.
        run: The run, which gets the model among its artifacts.
        read: The run's checkpoint.
        name: Name of the model, created if needed.
        alias: An alias that will point to this version.

    Raises:
        InputError: MLflow refuses the name or the alias, or the store fails.
    """
    client, digest = store.client(), _digest(read.path)
    with failing_as_input_error(f"name={name}", ADVICE):
        version = _find(client, name, run.info.run_id, digest)
        is_new = version is None
        if version is None:
            _make_model(client, name)
            folder = f"model-{digest[:8]}"  # a run that is resumed and registered again must not change this version
            _upload(client, run, read, folder)
            version = client.create_model_version(
                name,
                f"runs:/{run.info.run_id}/{folder}",
                run.info.run_id,
                tags={CHECKPOINT_TAG: f"{folder}/data/{read.path.name}", _DIGEST_TAG: digest, **_tags(run, read)},
                description=_description(run, read),
            )
        if alias:
            client.set_registered_model_alias(name, alias, version.version)
    return Registered(client.get_model_version(name, version.version), is_new)


def _find(client: MlflowClient, name: str, run_id: str, digest: str) -> ModelVersion | None:
    """Return the version that holds this checkpoint already."""
    same = [v for v in client.search_model_versions(f"run_id='{run_id}'") if v.name == name]
    return next((found for found in same if found.tags.get(_DIGEST_TAG) == digest), None)


def _make_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name, description=f"Grades knee osteoarthritis on radiographs; {DISCLAIMER}.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _upload(client: MlflowClient, run: Run, read: Checkpoint, folder: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        local = Path(place) / folder
        mlflow.pyfunc.save_model(
            str(local),
            loader_module=mlflow_model.__name__,
            data_path=str(read.path),
            mlflow_model=Model(artifact_path=folder, run_id=run.info.run_id),
            signature=mlflow_model.signature(),
            input_example=mlflow_model.example(),
            pip_requirements=[f"{package}=={installed(package)}" for package in _NEEDS],
            metadata={"note": DISCLAIMER, **caveat_tags(read.caveats)},
        )
        client.log_artifacts(run.info.run_id, str(local), folder)


def _tags(run: Run, read: Checkpoint) -> dict[str, str]:
    """Return the tags for readers of the list of versions; the caveats are those of the checkpoint itself."""
    data = read.record.data
    numbers = {
        name: f"{value:.4f}" for name, value in sorted(run.data.metrics.items()) if name.startswith(("best/", "test/"))
    }
    return {
        **caveat_tags(read.caveats),
        "network": read.record.net.name,
        "weights": read.record.weights,
        "data": data.name,
        "data.fingerprint": data.fingerprint,
        "split": data.split or "unknown",
        "git.commit": run.data.tags.get("git.commit", "unknown"),
        **{name.replace("/", "."): value for name, value in numbers.items() if name.split("/")[1] in _SHOWN},
    }


_SHOWN = ("quadratic_kappa", "accuracy", "mae")


def _description(run: Run, read: Checkpoint) -> str:
    caveats = f" NOT A RESULT: {', '.join(read.caveats)}." if read.caveats else ""
    what = f"{read.record.net.name} of run {run.info.run_name}, epoch {read.epoch}"
    return f"{what}. {DISCLAIMER.capitalize()}.{caveats}"


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
