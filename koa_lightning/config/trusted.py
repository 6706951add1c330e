"""Which stores a file may name: checkpoints, run folders and databases may come from anybody. No heavy imports here.

Otherwise the author of such a file would choose where results go, and who receives the user's MLflow credentials.
"""

from __future__ import annotations

import os
import re
import sqlite3
from typing import Any, NamedTuple

from koa_lightning.config.addresses import public
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_TABLES = {"alembic_version", "experiments", "runs"}
_LONGEST_SHOWN = 200


class Place(NamedTuple):
    """Where a run goes.

    Attributes:
        uri: The address to use; None: the default store.
        refused: Whether a file named another address, which must not be used.
    """

    uri: str | None
    refused: bool


def place(configured: str | None, named: Any) -> Place:
    """Return the store in which to resume a run whose file names a store.

    The address in the file counts only if it equals the one configured here, whose user and password then apply, or if
    it is a store on this machine. The configured address overrides a store on this machine only if it was typed.

    Args:
        configured: The setting `tracking.uri`.
        named: The entry in the file; nothing about it is trusted, not even that it is a text.
    """
    given = configured or os.environ.get(VARIABLE) or None
    if configured or not named or is_same(given, named):
        return Place(given, refused=False)
    return Place(named, refused=False) if is_local_store(named) else Place(given, refused=True)


def is_same(configured: str | None, named: Any) -> bool:
    """Tell whether a file names the configured address; recorded addresses have no password."""
    return bool(configured) and isinstance(named, str) and _plain(str(configured)) == _plain(named)


def is_run_id(named: Any) -> bool:
    """Tell whether the entry of a file is a possible run id."""
    return isinstance(named, str) and _RUN_ID.fullmatch(named) is not None


def is_local_store(named: Any) -> bool:
    """Tell whether an address is that of an existing tracking database on this machine.

    The check changes nothing: MLflow would add its tables to an empty file, or to another program's database.
    """
    if not isinstance(named, str) or not named.startswith(_SQLITE) or any(bad in named for bad in "?\0\\"):
        return False
    text = named.removeprefix(_SQLITE)
    if not text or text.startswith("//"):  # `//server/share` is another machine on some systems
        return False
    try:
        file = user_path(text).absolute()
        if not file.is_file():
            return False
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, OSError, InputError, ValueError):  # no database, no permission, no such user, a bad name
        return False
    return {row[0] for row in rows} >= _TABLES


def shown(named: Any) -> str:
    """Return the entry of a file as part of one line: no password, no control characters, not too long."""
    text = public(str(named)) if isinstance(named, str) else f"a {type(named).__name__}"
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _plain(address: str) -> str:
    return public(address).rstrip("/")
