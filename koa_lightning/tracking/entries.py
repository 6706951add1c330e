"""Turn what a training logs into entries that fit MLflow's limits, without cutting any."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import time
from collections.abc import Mapping
from typing import Any

from koa_lightning.tracking.spool import Entry

RESUMED = "resumed."
"""Prefix of the tags for settings and facts of a run's last start that differ from those of its first."""
PARAM_LENGTH = 6000
"""MLflow's longest parameter value, in characters; it cuts longer ones."""
TAG_LENGTH = 8000
"""MLflow's longest tag value, in characters; it cuts longer ones."""


def now_ms() -> int:
    """Return the time in milliseconds since 1970, as MLflow keeps it."""
    return time.time_ns() // 1_000_000


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Write a nested mapping as `a.b.c -> text`, values as in an override (`null`, `true`, `[1, 2]`)."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[valid_name(f"{prefix}{key}")] = as_text(value)
    return flat


def as_text(value: Any) -> str:
    """Return a string unchanged and anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def valid_name(name: str) -> str:
    """Return a name with the characters that MLflow forbids replaced by underscores."""
    return posixpath.normpath(re.sub(r"[^\w.\- :/]", "_", name).lstrip("/"))


def pairs(op: str, values: Mapping[str, str], longest: int) -> list[Entry]:
    """Return the entries of parameters or tags; a value that is too long becomes a text artifact, named in its place.

    Args:
        op: "params" or "tags".
        values: Names and texts.
        longest: The most characters that MLflow keeps.
    """
    short: dict[str, str] = {}
    texts: list[Entry] = []
    for name, value in values.items():
        if len(value) > longest:
            # The hash keeps the first text when a resumed run brings another.
            digest = hashlib.sha256(value.encode()).hexdigest()[:8]
            file = f"{op}/{name.replace('/', '_')}-{digest}.txt"
            texts.append({"op": "text", "text": value, "file": file})
            value = f"{len(value)} characters, see artifact {file}"
        short[name] = value
    return [*texts, {"op": op, "values": short}]
