"""The one reader of the JSON files in a folder; it checks them field by field. No heavy imports here.

Kinds (`koa_lightning.config.kinds`) describe the content of such a file, as for a config. A folder may come from
anybody, so every misfit is reported in one line with the file, the field and the allowed values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koa_lightning.config.kinds import Kind, Many, Mapped, typed
from koa_lightning.config.places import read_json
from koa_lightning.errors import InputError

_DEEPEST = 60
_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True)
class Fields(Kind):
    """An entry whose fields each have their own kind; further fields are ignored.

    Attributes:
        needed: Required fields.
        may: Optional fields.
        rule: Returns what is wrong between valid fields, or an empty string.
    """

    needed: Mapping[str, Kind] = field(default_factory=dict)
    may: Mapping[str, Kind] = field(default_factory=dict)
    rule: Callable[[Mapping[str, Any]], str] | None = None

    def fits(self, value: Any) -> bool:
        """See `Kind`."""
        return isinstance(value, Mapping) and not misfit(value, self)

    def words(self) -> str:
        """See `Kind`."""
        return f"an entry with {', '.join(self.needed)}" if self.needed else "names with what belongs to each"


def read(file: Path, kind: Kind, advice: str = "give another file") -> Any:
    """Return the content of a JSON file that fits a kind.

    Args:
        file: An existing file.
        kind: Of the whole content.
        advice: What to do about a file that does not fit.

    Raises:
        InputError: It is not JSON, is nested too deeply, or a field is missing or of another kind.
    """
    found = read_json(file, advice=advice)
    if reason := misfit(found, kind) or _too_deep(found):
        raise InputError(f"{file}: {reason}; {advice}")
    return found


def misfit(value: Any, kind: Kind, path: str = "") -> str:
    """Return one line that says what does not fit, with the path of its field, or an empty string.

    Args:
        value: As it was read.
        kind: The expected kind.
        path: Of the value in its file.
    """
    if isinstance(kind, Fields) and isinstance(value, Mapping):
        return _misfit_of_fields(value, kind, path)
    if isinstance(kind, Mapped) and isinstance(value, Mapping):
        return next((why for name, each in value.items() if (why := misfit(each, kind.each, _below(path, name)))), "")
    if isinstance(kind, Many) and isinstance(value, list):
        inside = (misfit(each, kind.each, f"{path}[{number}]") for number, each in enumerate(value))
        if why := next((why for why in inside if why), ""):
            return why
    if isinstance(value, Mapping) and isinstance(kind, Fields | Mapped):
        return ""
    if why := kind.wrong(value):
        return f"{path or 'it'}={_short(value)}: {why}"
    return ""


def _misfit_of_fields(value: Mapping[str, Any], kind: Fields, path: str) -> str:
    if lacking := [name for name in kind.needed if name not in value]:
        return f"has no entry {_below(path, lacking[0])}"
    for name, each in {**kind.needed, **kind.may}.items():
        if name in value and (why := misfit(value[name], each, _below(path, name))):
            return why
    why = kind.rule(value) if kind.rule else ""
    return f"{path or 'it'}: {why}" if why else ""


def _below(path: str, name: str) -> str:
    return f"{path}.{_short(name)}" if path else _short(name)


def _short(value: Any) -> str:
    """Return a value as a user would type it, in one short line without control characters."""
    if isinstance(value, Mapping | list):
        return "{...}" if isinstance(value, Mapping) else "[...]"
    text = typed(value) if not isinstance(value, int) or abs(value) < 10**_SHOWN else "a number of many digits"
    text = "".join(letter if letter.isprintable() else "?" for letter in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _too_deep(value: Any) -> str:
    level = [value]
    for _ in range(_DEEPEST):
        level = [each for node in level for each in _inside(node)]
        if not level:
            return ""
    return "nested too deeply to be read"


def _inside(node: Any) -> list[Any]:
    if isinstance(node, Mapping):
        return list(node.values())
    return node if isinstance(node, list) else []
