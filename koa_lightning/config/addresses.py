"""Addresses without their passwords. No heavy imports here: every run and every report needs this module."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

# A password in the address of a web server or a database. Its `@` and `/` must be written %40 and %2F.
_TYPED = re.compile(r"(?P<scheme>https?|postgresql(?:\+\w+)?)://(?P<user>[^/\s:@'\"]+):(?P<password>[^/\s'\"]+)@")
_SERVES = "database"  # of `server`, which passes it to MLflow and keeps no record


def keep_passwords(overrides: Sequence[str]) -> list[str]:
    """Return overrides without the passwords of their addresses, which move to the environment.

    MLflow and PostgreSQL read them there, in this process and in its child processes. So no password reaches the
    record of a run, a database, a tag or a log.

    Args:
        overrides: As typed.
    """
    return [item if item.startswith(f"{_SERVES}=") else _TYPED.sub(_kept, item) for item in overrides]


def _kept(found: re.Match[str]) -> str:
    user, password = unquote(found["user"]), unquote(found["password"])
    if found["scheme"].startswith("http"):
        os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)
        return f"{found['scheme']}://"
    os.environ["PGPASSWORD"] = password
    return f"{found['scheme']}://{found['user']}@"


def public(text: str) -> str:
    """Return a text without the user and password of any address."""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def without_passwords(node: Any) -> Any:
    """Return a copy of plain values without the user and password of any address in a text."""
    if isinstance(node, Mapping):
        return {key: without_passwords(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [without_passwords(value) for value in node]
    return public(node) if isinstance(node, str) else node
