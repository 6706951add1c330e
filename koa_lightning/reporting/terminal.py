"""Tables for a terminal. Names that do not fit become letters, each explained in a line below the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_uppercase

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDE = 100_000  # columns; a terminal this wide fits any table


def show(console: Console, make: Callable[[Sequence[str]], Table], names: Sequence[str], title: str = "") -> None:
    """Print a table of runs or members without breaking a name across lines.

    Args:
        console: The terminal.
        make: Builds the table from the names to show.
        names: Names of its columns or rows. If they make the table too wide, it shows A, B, C instead, and a line for
            each name follows.
        title: One line above the table.
    """
    if title:
        console.print(title, style="italic", soft_wrap=True, highlight=False, markup=False)
    table = make(names)
    if _width(console, table) <= console.width:
        console.print(table)
        return
    letters = [_letter(number) for number in range(len(names))]
    console.print(make(letters))
    for letter, name in zip(letters, names, strict=True):
        console.print(f"{letter}: {name}", soft_wrap=True, highlight=False, markup=False)


def _width(console: Console, table: Table) -> int:
    """Return the width, in columns, at which no cell of a table is folded."""
    return Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    first, last = divmod(number, len(ascii_uppercase))
    return (_letter(first - 1) if first else "") + ascii_uppercase[last]
