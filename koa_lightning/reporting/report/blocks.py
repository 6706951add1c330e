"""What a section of the report is made of; the template knows how each looks."""

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
    """One sentence on what is not here, and what to type to have it."""

    words: str
    kind: str = field(default="absent", init=False)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        columns: Heads.
        rows: Cells as text, as many a row as there are heads.
        note: Below it.
        words: Columns (from 0) that hold words and are set to the left; the others hold numbers.
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
    """A figure: drawn, to be written under a name as PNG and SVG, and shown at a share of the page's width."""

    name: str
    figure: figure.Figure
    caption: str
    width: str = "full"  # full | half
    kind: str = field(default="drawing", init=False)


@dataclass(frozen=True)
class Pictures:
    """Pictures that are there already: (address, words) each; `large` ones take the whole width."""

    items: Sequence[tuple[str, str]]
    caption: str
    large: bool = False
    kind: str = field(default="pictures", init=False)


@dataclass(frozen=True)
class Facts:
    """Names with what they are, e.g. of a model card."""

    rows: Sequence[tuple[str, str]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Checklist:
    """The items of a reporting list: see `checklists.Answer`."""

    items: Sequence[Any]
    kind: str = field(default="checklist", init=False)


NOTHING = "\N{EN DASH}"  # in the cell of a table
Block = Text | Absent | Table | Drawing | Pictures | Facts | Checklist


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading."""

    name: str
    title: str
    blocks: Sequence[Block]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number as text, an absent one as a dash."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def with_interval(entry: dict[str, Any] | None, digits: int = 3) -> str:
    """Return `value (low to high)`, as far as these are known."""
    if entry is None or entry.get("value") is None:
        return NOTHING
    if entry.get("low") is None:
        return number(entry["value"], digits)
    return f"{entry['value']:.{digits}f} ({entry['low']:.{digits}f} to {entry['high']:.{digits}f})"


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as per cent, an absent one as a dash."""
    return NOTHING if share is None else f"{share:.{digits}%}"


def sentence(words: str) -> str:
    """Return words with a capital letter first; the others stay as they are."""
    return f"{words[:1].upper()}{words[1:]}"


def count(n: int, noun: str) -> str:
    """Return a number with its noun, e.g. `1 knee`, `2 knees`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
