"""The line of `--help` for each key: its allowed values by the schema, and its comment. No heavy imports here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from koa_lightning.config import schema
from koa_lightning.config.kinds import Kind

_KEY = re.compile(r"""^(?P<indent> *)["']?(?P<name>\w+)["']?:(?P<rest>.*)$""")
_COMMENT = re.compile(r"(?:^|\s)#\s*(?P<text>.*)$")


def lines(files: Iterable[tuple[Path, str]], command: str) -> list[str]:
    """Return a line for each key that the schema knows: `KEY: allowed values  # comment`.

    The files are read line by line, as a YAML parser would make the help too slow.

    Args:
        files: YAML files, each with the prefix of its keys, e.g. `data.`; for a key in several files the first comment
            counts.
        command: E.g. `train`.
    """
    comments: dict[str, str] = {}
    for file, prefix in files:
        for key, comment in _in(file.read_text(encoding="utf-8", errors="replace")):
            comments[prefix + key] = comments.get(prefix + key) or comment
    return [_line(key, kind, comments[key]) for key in comments if (kind := schema.kind_of(key, command))]


def _line(key: str, kind: Kind, comment: str) -> str:
    """Return the line of a key; a comment that only lists the same choices (`a | b`) is not repeated."""
    null = ", or null" if kind.null else ""
    same = comment.split(" | ") == kind.known()
    return f"{key}: {kind.words()}{null}{f'  # {comment}' if comment and not same else ''}"


def _in(text: str) -> Iterator[tuple[str, str]]:
    """Yield each key of a YAML text with its comment, which may continue on the next lines at its own column."""
    path: list[tuple[int, str]] = []
    key, comment, column = "", "", 0
    for line in text.splitlines():
        if comment and not line[:column].strip() and line[column : column + 1] == "#":
            comment += f" {line[column + 1 :].strip()}"
            continue
        if (found := _KEY.match(line)) is None:
            continue
        if key:
            yield key, comment
        indent = len(found["indent"])
        path = [*(entry for entry in path if entry[0] < indent), (indent, found["name"])]
        key, said = ".".join(name for _, name in path), _COMMENT.search(found["rest"])
        comment = said["text"] if said else ""
        column = len(line) - len(found["rest"]) + found["rest"].rindex("#", 0, said.start("text")) if said else 0
    if key:
        yield key, comment
