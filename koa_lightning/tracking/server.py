"""Run an MLflow server for several users, on PostgreSQL: `python -m koa_lightning.server`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.config import outcome
from koa_lightning.config.compose import validate
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.tracking import leftovers, postgres
from koa_lightning.tracking.ports import check_port
from koa_lightning.tracking.store import first_line, public, why_unreachable

START_SECONDS = 600  # the first start creates MLflow's tables: half a minute on an idle machine
END_SECONDS = 15.0


def serve(cfg: DictConfig) -> dict[str, Any]:
    """Start PostgreSQL, if no other database is named, and an MLflow server on it; return when the server ends.

    Args:
        cfg: The config `server`, composed.

    Returns:
        `exit_code`: 0 after Ctrl-C or a termination signal, 1 if the server ended by itself.

    Raises:
        InputError: PostgreSQL is missing, a database is unreachable, a port is in use, or a folder is served already.
    """
    validate(cfg)
    folder = user_path(cfg.folder).absolute()
    left = leftovers.end(folder)
    for leader in left.processes:
        print(f"ended the MLflow server (process {leader}) that a killed koa-server had left running", flush=True)
    check_port(cfg.host, cfg.port, "type port=NUMBER for another")
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(str(cfg.database)) if cfg.database else _database(folder, left.database) as database:
        check_database(database)
        return {"exit_code": _run(cfg, database, artifacts)}


@contextlib.contextmanager
def _database(folder: Path, is_left: bool) -> Iterator[str]:
    """Run the PostgreSQL server of a folder during the block; yield the address of MLflow's database in it.

    Args:
        folder: The folder that is served.
        is_left: Whether a killed koa-server started the PostgreSQL server that runs already; it then stops at the end.

    Raises:
        InputError: It does not start, or another process serves the folder and would lose its database at the end.
    """
    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(f"folder={folder}: another koa-server serves it; use that one, or stop it") from None
    with held:
        cluster = postgres.make(folder / "postgres")
        ran_before = cluster.runs() and not is_left
        try:
            cluster.start()
            yield cluster.create("mlflow")
        finally:
            if ran_before:
                print("PostgreSQL was already running, and keeps running", flush=True)
            elif cluster.runs():
                cluster.stop()
                print(f"PostgreSQL stopped; its data stays in {folder}", flush=True)


def check_database(address: str) -> None:
    """Check that a database can be used, before a server retries it for minutes.

    Raises:
        InputError: It is not PostgreSQL, its driver is missing, or it refuses the login.
    """
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    shown = f"database={public(address)}"
    if not address.startswith(("postgresql://", "postgresql+psycopg://")):
        raise InputError(f"{shown}: must be postgresql://USER:PASSWORD@HOST:PORT/NAME, or omit it")
    try:
        engine = sqlalchemy.create_engine(with_driver(address), connect_args={"connect_timeout": 10})
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except ModuleNotFoundError:
        raise InputError(
            'server: the driver of PostgreSQL is missing; type pip install "koa-lightning[server]"'
        ) from None
    except (SQLAlchemyError, ArgumentError, ValueError) as error:
        raise InputError(
            f"{shown}: {first_line(error)}; is it running, and are the name and password right?"
        ) from error


def with_driver(address: str) -> str:
    """Return the address of a database with the driver that the extra `server` installs."""
    return "postgresql+psycopg://" + address.partition("://")[2]


def _run(cfg: DictConfig, database: str, artifacts: Path) -> int:
    """Run the MLflow server until it ends or is interrupted; return the exit code."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", cfg.host, "--port", str(cfg.port)]
    command += ["--workers", str(cfg.workers), "--artifacts-destination", artifacts.as_uri(), *map(str, cfg.options)]
    # Passed in the environment: the address holds a password, and any user can list the commands of a machine.
    secret = {"MLFLOW_BACKEND_STORE_URI": with_driver(database), "MLFLOW_DISABLE_TELEMETRY": "true"}
    address = f"http://{'127.0.0.1' if cfg.host == '0.0.0.0' else cfg.host}:{cfg.port}"
    # A group of its own, so that Ctrl-C in a terminal ends its workers in order, through us.
    server = subprocess.Popen(command, env={**os.environ, **secret}, start_new_session=True)
    record = leftovers.record_file(artifacts.parent, cfg.port)
    try:
        leftovers.write(record, server.pid, database=not cfg.database)
        print("starting (the first time takes half a minute)", flush=True)
        _wait(server, address, why_unreachable)
        print(f"MLflow at {address}; train into it by tracking.uri={address}; Ctrl-C ends it", flush=True)
        print(DISCLAIMER, flush=True)
        server.wait()
        outcome.say_error(f"the MLflow server ended by itself, with exit code {server.returncode}; the reason is above")
        return outcome.PARTLY
    except KeyboardInterrupt:
        return outcome.DONE
    finally:
        end(server)
        record.unlink(missing_ok=True)


def _wait(server: subprocess.Popen[bytes], address: str, why_unreachable: Any) -> None:
    until = time.monotonic() + START_SECONDS
    reason = "no answer"
    while server.poll() is None and time.monotonic() < until:
        reason = why_unreachable(address, 3)
        if not reason:
            return
        time.sleep(0.5)
    how = f"exit code {server.returncode}" if server.poll() is not None else reason
    raise InputError(f"the MLflow server does not start ({how}); its output is above")


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its whole group of processes."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        if server.poll() is None:
            os.killpg(server.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)  # workers that outlived it
