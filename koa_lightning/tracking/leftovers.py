"""End the processes that a killed `koa_lightning.server` left running. No heavy imports here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

from koa_lightning.config.places import replace_text
from koa_lightning.tracking import owner

_END_SECONDS = 15.0


class Left(NamedTuple):
    """The processes that were found.

    Attributes:
        processes: Leaders of MLflow servers that were ended.
        database: Whether the killed server had started the PostgreSQL server of the folder.
    """

    processes: list[int]
    database: bool


def record_file(folder: Path, port: int) -> Path:
    """Return the file in which a running server records the processes that it started.

    Args:
        folder: The folder that it serves.
        port: The port that it listens on.
    """
    return folder / f".server-{port}.json"


def write(file: Path, server: int, database: bool) -> None:
    """Record the processes that this one has started.

    Args:
        file: From `record_file`.
        server: The process id of MLflow, the leader of a session.
        database: Whether it started PostgreSQL too.
    """
    started = owner.started(str(server))
    record = {"owner": owner.this()._asdict(), "server": [server, started], "database": database}
    replace_text(file, json.dumps(record))


def end(folder: Path) -> Left:
    """End the processes that killed servers of a folder left running.

    Args:
        folder: The folder that they served.
    """
    left = Left([], False)
    for file in sorted(folder.glob(".server-*.json")):
        record = _read(file)
        if record is None or not owner.has_ended(owner.Process(**record["owner"])):
            continue
        leader, started = record["server"]
        if _end_session(leader, started):
            left.processes.append(leader)
        left = left._replace(database=left.database or record["database"] is True)
        file.unlink()
    return left


def _end_session(leader: int, started: str) -> bool:
    """End the processes of a session, if its leader is still the recorded one; return whether there were any."""
    if owner.started(str(leader)) not in (owner.UNKNOWN, started):
        return False
    found = _members(leader)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in _members(leader):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        until = time.monotonic() + _END_SECONDS
        while _members(leader) and time.monotonic() < until:
            time.sleep(0.1)
    return bool(found)


def _members(leader: int) -> list[int]:
    """Return the running MLflow processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            words = (folder / "cmdline").read_bytes()
        except (OSError, ValueError):  # it has just ended
            continue
        if session == str(leader) and state != "Z" and b"mlflow" in words:
            found.append(int(folder.name))
    return found


def _read(file: Path) -> dict[str, Any] | None:
    """Return the record in a file; None if no server has written it."""
    try:
        record = json.loads(file.read_text())
        leader, started = record["server"]
        whole = isinstance(leader, int) and leader > 1 and isinstance(started, str)
        whole = whole and set(record["owner"]) == set(owner.Process._fields) and "database" in record
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if whole else None
