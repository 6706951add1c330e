"""Addresses without their passwords; no heavy imports here, as every run and every report needs it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

# A password in an address, of a web server or a database; `@` and `/` in it are written %40 and %2F, or it would end.
_TYPED = re.compile(r"(?P<scheme>https?|postgresql(?:\+\w+)?)://(?P<user>[^/\s:@'\"]+):(?P<password>[^/\s'\"]+)@")
_SERVES = "database"  # of `server`, which hands it on to MLflow and keeps no record


def keep_passwords(overrides: Sequence[str]) -> list[str]:
    """Return overrides without the passwords of their addresses, which are in the environment from then on.

    MLflow and PostgreSQL read them there, in this process and in those that it begins. So no password comes into the
    record of a run, a database, a tag or a log, whoever writes it.

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
    """Return a text with the user and password of any address taken out."""
    return re.sub(r"(?<=://)[^/\s]+@", "", text)


def without_passwords(node: Any) -> Any:
    """Return a copy of plain values in which no text holds the user and password of an address."""
    if isinstance(node, Mapping):
        return {key: without_passwords(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [without_passwords(value) for value in node]
    return public(node) if isinstance(node, str) else node
