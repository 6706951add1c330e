"""Addresses without their passwords; no heavy imports here, as every run and every report needs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


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
