"""MLflow's own server of a registered model: `python -m koa_lightning.serving.mlflow_server model=NAME@ALIAS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow.exceptions import MlflowException

from koa_lightning.config.outcome import BAD_INPUT, bad_input
from koa_lightning.errors import InputError
from koa_lightning.tracking.ports import check_port
from koa_lightning.tracking.store import Store, failing_as_input_error, open_store
from koa_lightning.tracking.ui import become, typed


def main(argv: Sequence[str] | None = None) -> int:
    """Become MLflow's scoring server of a registered model.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        2 after one line that says what is wrong; otherwise MLflow replaces this process.
    """
    known = {"model": "koa-grader@champion", "port": "5001"}
    try:
        options = typed(sys.argv[1:] if argv is None else argv, known)
        check_port("127.0.0.1", int(options["port"]), "type PORT=NUMBER for another")
        store = open_store(None, Path("mlruns"), create=False)
        check_model(store, options["model"])
    except Exception as error:
        return bad_input(error)
    command = ["mlflow", "models", "serve", "-m", f"models:/{options['model']}", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", options["port"]]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    become(command, MLFLOW_TRACKING_URI=store.uri, **quiet)
    return BAD_INPUT


def check_model(store: Store, model: str) -> None:
    """Check that a store holds a registered model.

    Args:
        store: The open store.
        model: `NAME@ALIAS` or `NAME/VERSION`.

    Raises:
        InputError: It does not, or `model` is not a valid name of a version.
    """
    name, sign, which = model.partition("@") if "@" in model else model.partition("/")
    if not (name and which and not set("@/") & set(which)):
        raise InputError(f"MODEL={model}: must be NAME@ALIAS or NAME/VERSION, e.g. koa-grader@champion")
    client = store.client()
    try:
        client.get_model_version_by_alias(name, which) if sign == "@" else client.get_model_version(name, which)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            with failing_as_input_error(f"MODEL={model} in {store.name}"):
                raise
        raise InputError(
            f"MODEL={model}: no such model in {store.name}; store one: make register RUN=ID ARGS='name=... alias=...'"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
