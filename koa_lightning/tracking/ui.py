"""Show the tracked runs in MLflow's pages: `python -m koa_lightning.tracking.ui [port=5000]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from koa_lightning.config.outcome import BAD_INPUT, bad_input
from koa_lightning.errors import InputError
from koa_lightning.tracking import view
from koa_lightning.tracking.ports import check_port
from koa_lightning.tracking.store import Store, open_store

_LARGEST_PORT = 65535
_EXPERIMENT = "koa-lightning"


def main(argv: Sequence[str] | None = None) -> int:
    """Become the server of MLflow's pages, on the database of the working directory.

    Args:
        argv: The arguments; None takes those of the process.

    Returns:
        2 after one line that says what is wrong; otherwise MLflow replaces this process.
    """
    try:
        port = int(typed(sys.argv[1:] if argv is None else argv, {"port": "5000"})["port"])
        check_port("127.0.0.1", port, "type PORT=NUMBER for another")
        store = open_store(f"sqlite:///{Path('mlruns', 'mlflow.db').absolute().as_posix()}", Path("mlruns"))
    except Exception as error:
        return bad_input(error)
    print(f"runs, best first: http://127.0.0.1:{port}/{best_first(store)}", flush=True)
    command = ["mlflow", "ui", "--backend-store-uri", store.uri, "--host", "127.0.0.1", "--port", str(port)]
    become(command, MLFLOW_DISABLE_TELEMETRY="true")
    return BAD_INPUT


def best_first(store: Store) -> str:
    """Return the end of the address of the runs, best first; an experiment of an older version gets its view too."""
    client = store.client()
    found = client.get_experiment_by_name(_EXPERIMENT)
    if found is None:
        return view.address(store.experiment_id(_EXPERIMENT))
    for key, value in view.tags().items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return view.address(found.experiment_id)


def typed(arguments: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the values of arguments `key=value`.

    Args:
        arguments: As typed.
        known: The known keys, with their default values.

    Raises:
        InputError: An unknown key, or an invalid port.
    """
    found = dict(known)
    for item in arguments:
        key, equals, value = item.partition("=")
        if key not in known or not equals or not value:
            shown = ", ".join(f"{name}=VALUE" for name in known)
            raise InputError(f"{item}: no such setting; there are {shown}")
        found[key] = value
    port = found["port"]
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= _LARGEST_PORT):
        raise InputError(f"port={port}: must be a whole number from 1 to {_LARGEST_PORT}")
    return found


def become(command: Sequence[str], **variables: str) -> None:
    """Replace this process by a program of this Python's environment; never returns.

    Args:
        command: The module, and its arguments.
        variables: Variables to add to the environment of this process.
    """
    # Programs that it starts come from this environment, whichever one the shell has activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.execve(sys.executable, [sys.executable, "-m", *command], {**os.environ, "PATH": path, **variables})


if __name__ == "__main__":
    sys.exit(main())
