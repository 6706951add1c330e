"""The building blocks of report sections; the template renders each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib import figure


@dataclass(frozen=True)
class Text:
    """A paragraph; `quiet` ones explain, `loud` ones warn."""

    words: str
    tone: str = ""
    kind: str = field(default="text", init=False)


@dataclass(frozen=True)
class Absent:
    """One sentence on what is missing, and how to add it."""

    words: str
    kind: str = field(default="absent", init=False)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Column heads.
        rows: Cells as text, one per column head.
        note: Text below it.
        words: Columns (from 0) of words, aligned left; the others are numbers, aligned right.
        last: Whether the last row sums up the others.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: Sequence[int] = (0,)
    last: bool = False
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Drawing:
    """A figure to save under a name and to show at the full or half width of the page."""

    name: str
    figure: figure.Figure
    caption: str
    width: str = "full"  # full | half
    kind: str = field(default="drawing", init=False)


@dataclass(frozen=True)
class Pictures:
    """Existing pictures, each (data URI, words); `large` ones take the whole width."""

    items: Sequence[tuple[str, str]]
    caption: str
    large: bool = False
    kind: str = field(default="pictures", init=False)


@dataclass(frozen=True)
class Facts:
    """Names with their descriptions, e.g. in a model card."""

    rows: Sequence[tuple[str, str]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Checklist:
    """The items of a reporting checklist: see `checklists.Answer`."""

    items: Sequence[Any]
    kind: str = field(default="checklist", init=False)


NOTHING = "\N{EN DASH}"  # in an empty cell of a table
Block = Text | Absent | Table | Drawing | Pictures | Facts | Checklist


@dataclass(frozen=True)
class Section:
    """A section of the page with its heading."""

    name: str
    title: str
    blocks: Sequence[Block]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, None as a dash."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def with_interval(entry: dict[str, Any] | None, digits: int = 3) -> str:
    """Return `value (low to high)`, as far as these are known."""
    if entry is None or entry.get("value") is None:
        return NOTHING
    if entry.get("low") is None:
        return number(entry["value"], digits)
    return f"{entry['value']:.{digits}f} ({entry['low']:.{digits}f} to {entry['high']:.{digits}f})"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as a percentage, None as a dash."""
    return NOTHING if share is None else f"{share:.{digits}%}"


def sentence(words: str) -> str:
    """Return words with the first letter capitalised and the rest unchanged."""
    return f"{words[:1].upper()}{words[1:]}"


def count(n: int, noun: str) -> str:
    """Return a number with its noun, e.g. `1 knee`, `2 knees`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
