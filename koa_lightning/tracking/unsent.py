"""Check a file `unsent.jsonl`: it may come from somebody else's run folder, and is sent in the user's name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from koa_lightning.config.trusted import shown
from koa_lightning.errors import InputError
from koa_lightning.tracking.artifacts import check_path
from koa_lightning.tracking.spool import Spool

LONGEST_LINE = 16 * 2**20
"""In bytes; our longest lines hold text artifacts."""
_START = '{"op"'  # of each entry, also of one that a crash left unfinished
_STATES = {"FINISHED", "FAILED", "KILLED"}
_LARGEST = 2**63 - 1


def check(spool: Spool) -> None:
    """Check that the file of a run holds only entries of a training, and names only files of the run folder.

    Raises:
        InputError: It does not; the message names the line.
    """
    folder = spool.path.parent.resolve()
    with spool.path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            where = f"{spool.path}, line {number}"
            if len(line) > LONGEST_LINE:
                raise InputError(f"{where}: longer than {LONGEST_LINE} bytes; no training writes such a line")
            if number > 1 and line.strip():
                for entry in _entries(line, where):
                    _check_entry(entry, where, folder)


def _entries(line: bytes, where: str) -> list[Any]:
    """Return the entry of a line; nothing for a line that a crash left unfinished."""
    wrong = InputError(
        f"{where}: is not an entry of a training (JSON with op, values, ...); remove the line, or the file"
    )
    try:
        text = line.decode().strip()
        return [json.loads(text)]
    except json.JSONDecodeError:
        if text.startswith(_START) or _START.startswith(text):
            return []
        raise wrong from None
    except (ValueError, RecursionError):  # not text, a number of thousands of digits, thousands of brackets
        raise wrong from None


def _check_entry(entry: Any, where: str, folder: Path) -> None:
    if not isinstance(entry, dict) or not isinstance(op := entry.get("op"), str) or op not in _FIELDS:
        raise InputError(f"{where}: is not an entry of a training (op is one of {', '.join(_FIELDS)}); remove the line")
    for name, is_right in _FIELDS[op].items():
        if not is_right(entry.get(name)):
            raise InputError(f"{where}: {op} without a valid '{name}'; remove the line, or the file")
    if op == "artifact":
        if entry["folder"] is not None:
            check_path(entry["folder"], where)
        _check_below(entry["local"], where, folder)
    elif op == "text":
        check_path(entry["file"], where)


def _check_below(local: str, where: str, folder: Path) -> None:
    """Check that a file, or each file of a folder sent as a whole, is below the run folder."""
    try:
        file = Path(local)
        # The folder itself first: somebody else's entry may name `/`, and listing that takes long.
        inside = chain([file], file.rglob("*") if file.is_dir() else ())
        outside = next((each for each in inside if folder not in each.resolve().parents), None)
    except (OSError, ValueError, RuntimeError):  # an impossible name, or a cycle of links
        outside = Path(local)
    if outside is not None:
        raise InputError(f"{where}: {shown(str(outside))} is not below the run folder {folder}; no other file is sent")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, float) or _is_whole(each) for each in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())


_FIELDS: Mapping[str, Mapping[str, Callable[[Any], bool]]] = {
    "metrics": {"values": _are_numbers, "step": _is_whole, "time": _is_whole},
    "params": {"values": _are_texts},
    "tags": {"values": _are_texts},
    "artifact": {"local": _is_text, "folder": lambda value: value is None or isinstance(value, str)},
    "text": {"text": _is_text, "file": _is_text},
    "dataset": {
        **dict.fromkeys(("name", "digest", "source", "context"), _is_text),
        "profile": lambda value: isinstance(value, dict),
    },
    "status": {"status": lambda value: isinstance(value, str) and value in _STATES, "time": _is_whole},
}
