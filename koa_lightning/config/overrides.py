"""The command line before Hydra reads it: flags first, paths in quotes. No heavy imports here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

from koa_lightning.errors import InputError

# What names a file, a folder or an address is taken as it was typed, whatever characters are in it.
_LITERAL = (
    "ckpt", "input", "out", "data.root", "data.table", "data.split_table", "data.cache_dir", "model.weights", "oof",
    "tracking.uri", "audit", "output", "grades", "key_file", "table", "thresholds", "first", "second", "run",
    "search", "sweep_run", "database", "folder", "storage", "best",
)  # fmt: skip


def sort_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags (with their values) and the overrides of a command line, in whatever order they were typed.

    Raises:
        InputError: There is no such flag.
    """
    parsed, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    strange = [item for item in unknown if item.startswith("-")]
    if strange:
        raise InputError(f"{strange[0]}: no such option; settings are typed as key=value (all of them: --cfg job)")
    rest = list(parsed.overrides)
    flags = [item for item in arguments if not (rest and item == rest[0] and rest.pop(0))]
    return flags, list(parsed.overrides)


def key(override: str) -> str:
    """Return the key of an override, e.g. `data.root` of `+data.root=x`, `loss` of `~loss`."""
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]


def value(override: str) -> str:
    """Return the value of an override as it was typed, without quotes around it."""
    return unquote(override.partition("=")[2])


def names_store(override: str) -> bool:
    """Tell whether an override sets the address of the MLflow store: `tracking.uri=...`, or `tracking={...}`."""
    name = key(override)
    return name == "tracking.uri" or name.startswith("tracking.uri.") or (name == "tracking" and "{" in override)


def unquote(text: str) -> str:
    """Return a text without quotes around it."""
    return re.sub(r"\\(['\"\\])", r"\1", text[1:-1]) if _is_quoted(text) else text


def quote(text: str) -> str:
    """Return a text in quotes as Hydra reads it, so that no character in it means anything."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def check_places(overrides: Sequence[str]) -> None:
    """Stop where the name of a file or folder is empty, as a shell leaves it of an unset variable.

    It would mean the current folder.

    Raises:
        InputError: Naming the override.
    """
    for item in overrides:
        name, typed = key(item), value(item).strip()
        if name in _LITERAL and "=" in item and (not typed or (name == "out" and typed == "null")):
            raise InputError(f"{item}: names nothing; type {name}=... with a name, or leave it away")


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Put the values that name files, folders and addresses in quotes."""
    return [_quoted(item) for item in overrides]


def as_typed(override: str) -> str:
    """Return an override without the quotes that `quote_paths` puts."""
    return f"{override.partition('=')[0]}={value(override)}" if key(override) in _LITERAL else override


def _quoted(override: str) -> str:
    typed = override.partition("=")[2]
    as_it_is = not typed or typed in ("null", "???") or _is_quoted(typed) or "${" in typed
    return override if as_it_is or key(override) not in _LITERAL else f"{override.partition('=')[0]}={quote(typed)}"


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
