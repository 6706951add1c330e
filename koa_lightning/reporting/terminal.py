"""Tables in a terminal: what does not fit gets a letter in the table and a whole line below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_uppercase

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDE = 100_000  # columns of a terminal in which everything fits


def show(console: Console, make: Callable[[Sequence[str]], Table], names: Sequence[str], title: str = "") -> None:
    """Print a table that names runs or members, so that no name is broken over lines.

    Args:
        console: Where.
        make: Makes the table from the names as they are shown.
        names: Of its columns or rows. If the table is too wide with them they are shown as A, B, C, with a line for
            each name below.
        title: Above it, in one line.
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
    """Return the width at which nothing of a table is folded, in columns."""
    return Measurement.get(console, console.options.update(max_width=_WIDE), table).maximum


def _letter(number: int) -> str:
    """Return A to Z, then AA, AB and so on."""
    first, last = divmod(number, len(ascii_uppercase))
    return (_letter(first - 1) if first else "") + ascii_uppercase[last]
