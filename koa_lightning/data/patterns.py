"""The regular expression that reads patient and side from a file's name, with a time limit.

A checkpoint includes the pattern of its data, so a pattern may come from anybody. The engine is `regex`: it accepts
all patterns of `re` (the default one looks ahead, unlike linear engines such as RE2) and can be stopped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import regex

from koa_lightning.errors import InputError

NAME_SECONDS = 0.5
"""Maximum processor seconds of a pattern per name; the default pattern takes a few microseconds."""
START_SECONDS, MEAN_SECONDS = 1.0, 0.001
"""Maximum for many names: a fixed part, plus this much per name."""
_LONGEST_PATTERN = 1000
_LONGEST_SHOWN = 240
# Chen 2018: 9001104R.jpg; auto_test: 9001104_1.png and _2.png, whose side is unknown.
CHEN_NAME = r"^(?P<patient>\d{7})(?:(?P<side>[LRlr])|_[12])\."
SIDES = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R"}
"""Spellings of a side in a name or a table."""
_ADVICE = "write it without nested repeats such as (a+)+; do not trust a checkpoint with such a pattern"


class NamePattern:
    """A pattern with a group `patient` and optionally `side`.

    Args:
        typed: The regular expression in the setting `data.pattern` or in a checkpoint.

    Raises:
        InputError: It is not a regular expression, is too long, or has no group `patient`.
    """

    def __init__(self, typed: str) -> None:
        self.typed = typed
        self._spent, self._n_names = 0.0, 0
        if not isinstance(typed, str):
            raise InputError(f"{self.setting}: not a regular expression (it is not a string)")
        if len(typed) > _LONGEST_PATTERN:
            raise InputError(f"{self.setting}: longer than {_LONGEST_PATTERN} characters; give a shorter one")
        try:
            self._compiled = regex.compile(typed)
        # RecursionError: thousands of brackets; MemoryError, OverflowError: huge counts
        except (regex.error, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise InputError(f"{self.setting}: not a regular expression ({error})") from None
        if "patient" not in self._compiled.groupindex:
            raise InputError(f"{self.setting}: needs a group (?P<patient>...)")

    @property
    def setting(self) -> str:
        """The pattern for messages, cut if long."""
        text = str(self.typed)
        return "data.pattern=" + (text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}...")

    def read(self, path: str) -> tuple[str, str]:
        """Return the patient and the side (L or R) in a file's name, each empty if missing.

        Raises:
            InputError: The pattern takes too long for this name, or for all names so far.
        """
        name = Path(path).name
        began = time.thread_time()
        try:
            match = self._compiled.search(name, timeout=NAME_SECONDS)
        except (TimeoutError, MemoryError):
            raise InputError(f"{self.setting}: takes too long to read the name {name}; {_ADVICE}") from None
        self._spent, self._n_names = self._spent + time.thread_time() - began, self._n_names + 1
        if self._spent > START_SECONDS + MEAN_SECONDS * self._n_names:
            names = f"{self._n_names} names such as {name}"
            raise InputError(f"{self.setting}: takes too long to read {names}; {_ADVICE}")
        if match is None or not match["patient"]:
            return "", ""
        return match["patient"], SIDES.get((match.groupdict().get("side") or "").upper(), "")


def named(path: str, pattern: NamePattern | None) -> tuple[str, str]:
    """Return the patient and the side (L or R) in a file's name, each empty if missing.

    Raises:
        InputError: The pattern takes too long.
    """
    return pattern.read(path) if pattern else ("", "")


def pattern_of(data: Mapping[str, Any]) -> NamePattern | None:
    """Return the pattern of a data set's file names, from its config; None if names give no information.

    Raises:
        InputError: `data.pattern` is not a regular expression with a group `patient`.
    """
    if data.get("name") == "chen2018":
        return NamePattern(CHEN_NAME)
    return NamePattern(data["pattern"]) if data.get("pattern") else None
