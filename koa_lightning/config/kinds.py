"""Kinds of configuration values: each one tells whether a value fits, and describes the values that do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Any value; the base of all kinds.

    Attributes:
        null: Whether null is allowed too.
        note: Added to the message for a wrong value, e.g. how to type a right one.
    """

    null: bool = False
    note: str = ""

    def fits(self, value: Any) -> bool:
        """Tell whether a value other than an allowed null is of this kind."""
        return True

    def words(self) -> str:
        """Return the allowed values in words, e.g. `a whole number from 1 to 64`."""
        return "anything"

    def known(self) -> list[str]:
        """Return the allowed values that can be listed, for the hint of the nearest one."""
        return []

    def wrong(self, value: Any) -> str:
        """Return what a value must be, or an empty string if it fits."""
        if value is None:
            return "" if self.null else self._must()
        return "" if self.fits(value) else self._must()

    def _must(self) -> str:
        return f"must be {self.words()}{f'; {self.note}' if self.note else ''}"


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number."""

    low: float
    high: float

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def words(self) -> str:
        """See `Kind`."""
        return f"a whole number from {self.low:.10g} to {self.high:.10g}"


@dataclass(frozen=True)
class Number(Kind):
    """A number; either end of the range may be excluded (`above`, `below`)."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return not ((self.above and value == self.low) or (self.below and value == self.high))

    def words(self) -> str:
        """See `Kind`."""
        if not self.above and not self.below:
            return f"a number from {self.low:.10g} to {self.high:.10g}"
        first = f"above {self.low:.10g}" if self.above else f"of at least {self.low:.10g}"
        return f"a number {first} and {'below' if self.below else 'at most'} {self.high:.10g}"


@dataclass(frozen=True, init=False)
class OneOf(Kind):
    """One of a few values."""

    choices: tuple[Any, ...]

    def __init__(self, *choices: Any, null: bool = False, note: str = "") -> None:
        for name, value in (("choices", choices), ("null", null), ("note", note)):
            object.__setattr__(self, name, value)

    def fits(self, value: Any) -> bool:
        """See `Kind`; 1 is not true."""
        return any(value is each or (isinstance(value, str) and value == each) for each in self.choices)

    def words(self) -> str:
        """See `Kind`."""
        return f"one of {', '.join(name or repr('') for name in self.known())}"

    def known(self) -> list[str]:
        """See `Kind`."""
        return [typed(choice) for choice in self.choices]


@dataclass(frozen=True)
class Listed(Kind):
    """One of the names listed by the configs, including those of a typed `--config-dir`.

    Attributes:
        names: Returns the names; called each time.
    """

    names: Callable[[], list[str]]

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, str) and value in self.names()

    def words(self) -> str:
        """See `Kind`."""
        return f"one of {', '.join(self.names())}"

    def known(self) -> list[str]:
        """See `Kind`."""
        return self.names()


class Flag(OneOf):
    """True or false."""

    def __init__(self, *, null: bool = False, note: str = "") -> None:
        super().__init__(True, False, null=null, note=note)


@dataclass(frozen=True)
class Text(Kind):
    """A text; a command line takes it as typed, whatever characters it contains.

    Attributes:
        what: Description for messages, e.g. a name.
        empty: Whether it may be empty.
    """

    what: str = "a text"
    empty: bool = False

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, str) and (self.empty or bool(value.strip()))

    def words(self) -> str:
        """See `Kind`."""
        return self.what


@dataclass(frozen=True)
class Place(Text):
    """A file, a folder or an address."""

    what: str = "the name of a file or folder"


@dataclass(frozen=True)
class Many(Kind):
    """A list of one kind.

    Attributes:
        each: Kind of its entries.
        length: How many; None: any number.
        one: Whether a single entry may stand for a list.
        distinct: Whether duplicates are forbidden.
        rising: Whether the entries must not decrease.
    """

    each: Kind
    length: int | None = None
    one: bool = False
    distinct: bool = False
    rising: bool = False

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        if isinstance(value, str) or not isinstance(value, Sequence):
            return self.one and self.each.fits(value)
        if self.length is not None and len(value) != self.length:
            return False
        if not all(map(self.each.fits, value)) or self._twice(value):
            return False
        return not self.rising or list(value) == sorted(value)

    def wrong(self, value: Any) -> str:
        """See `Kind`."""
        twice = self._twice(value)
        return f"names {twice} twice; name it once" if twice else super().wrong(value)

    def words(self) -> str:
        """See `Kind`."""
        if isinstance(self.each, Text):
            listed = self.note or "as [A,B]"
            return f"{self.each.what}, or {listed}" if self.one else f"a list {listed}"
        count = f"{self.length} values" if self.length else "values"
        order = ", the smallest first" if self.rising else ""
        alone = f"{self.each.words()}, or " if self.one else ""
        return f"{alone}a list of {count} as [A,B], each {self.each.words()}{order}"

    def known(self) -> list[str]:
        """See `Kind`."""
        return self.each.known()

    def _must(self) -> str:
        return f"must be {self.words()}"

    def _twice(self, value: Any) -> str:
        """Return the first text that occurs twice in a list without duplicates, or an empty string."""
        if not self.distinct or not isinstance(value, list | tuple):
            return ""
        return next((each for each in value if isinstance(each, str) and value.count(each) > 1), "")


@dataclass(frozen=True)
class Mapped(Kind):
    """Names, each with a value."""

    each: Kind = Kind()

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, Mapping) and all(map(self.each.fits, value.values()))

    def words(self) -> str:
        """See `Kind`."""
        return "names with what belongs to each"


@dataclass(frozen=True, init=False)
class Either(Kind):
    """Any of several kinds."""

    kinds: tuple[Kind, ...]

    def __init__(self, *kinds: Kind, null: bool = False, note: str = "") -> None:
        for name, value in (("kinds", kinds), ("null", null), ("note", note)):
            object.__setattr__(self, name, value)

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return any(kind.fits(value) for kind in self.kinds)

    def words(self) -> str:
        """See `Kind`."""
        return ", or ".join(kind.words() for kind in self.kinds)

    def known(self) -> list[str]:
        """See `Kind`."""
        return [name for kind in self.kinds for name in kind.known()]


def typed(value: Any) -> str:
    """Return a value as a user would type it."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{typed(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
