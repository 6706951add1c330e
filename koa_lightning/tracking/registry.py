"""Find the checkpoint of a registered model, from `models:/NAME@ALIAS`."""

from __future__ import annotations

import re

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from koa_lightning.errors import InputError
from koa_lightning.tracking.runs import ADVICE
from koa_lightning.tracking.store import Store, failing_as_input_error

CHECKPOINT_TAG = "checkpoint"
"""Tag of a model version: the path of its checkpoint among the artifacts of its run."""


_ADDRESS = re.compile(r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))")


def checkpoint_of(store: Store, uri: str) -> str:
    """Return the address `runs:/ID/PATH` of the checkpoint of `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    Raises:
        InputError: A malformed address, no such model, or one that `register` did not store.
    """
    found = _ADDRESS.fullmatch(uri)
    if not found:
        raise InputError(f"{uri}: must be models:/NAME@ALIAS or models:/NAME/VERSION, e.g. models:/koa-grader@champion")
    client = store.client()
    with failing_as_input_error(uri, ADVICE):
        try:
            version = (
                client.get_model_version_by_alias(found["name"], found["alias"])
                if found["alias"]
                else client.get_model_version(found["name"], found["version"])
            )
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise InputError(f"{uri}: {_what_there_is(client, found['name'])} in {store.name}") from None
    if CHECKPOINT_TAG not in version.tags or not version.run_id:
        raise InputError(f"{uri}: holds no checkpoint of koa_lightning; store one by python -m koa_lightning.register")
    return f"runs:/{version.run_id}/{version.tags[CHECKPOINT_TAG]}"


def _what_there_is(client: MlflowClient, name: str) -> str:
    """Say which versions a model has, for a message about a missing one."""
    known = {model.name: model for model in client.search_registered_models()}
    if name not in known:
        return f"no model '{name}' (there are: {', '.join(sorted(known)) or 'none'})"
    numbers = sorted(int(version.version) for version in client.search_model_versions(f"name='{name}'"))
    aliases = [f"@{alias}" for alias in sorted(known[name].aliases)]
    return f"no such version; {name} has {', '.join([*map(str, numbers), *aliases])}"
