"""The command line before Hydra reads it: flags first, texts quoted. No heavy imports here."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser

from koa_lightning.config import schema
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

# A text is taken as typed, whatever characters it contains.
_LITERAL, _PLACES = schema.texts(), schema.places()
# Images and tables that commands read; results must not overwrite them, except in a checkpoint's own folder.
_INPUTS = {
    "data.root",
    "data.table",
    "data.split_table",
    "input",
    "table",
    "first",
    "second",
    "grades",
    "oof",
    "teacher.table",
}


def sort_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags (with their values) and the overrides of a command line, in whatever order they were typed.

    Raises:
        InputError: An option is unknown.
    """
    parsed, unknown = get_args_parser().parse_known_intermixed_args(list(arguments))
    strange = [item for item in unknown if item.startswith("-")]
    if strange:
        raise InputError(f"{strange[0]}: no such option; type settings as key=value (--cfg job lists them)")
    rest = list(parsed.overrides)
    flags = [item for item in arguments if not (rest and item == rest[0] and rest.pop(0))]
    return flags, list(parsed.overrides)


def config_folders(arguments: Sequence[str]) -> list[str]:
    """Return the folders that a command line gives by `--config-dir`; of several Hydra takes the last."""
    folder = get_args_parser().parse_known_intermixed_args(list(arguments))[0].config_dir
    return [folder] if folder else []


def key(override: str) -> str:
    """Return the key of an override, e.g. `data.root` of `+data.root=x`, `loss` of `~loss`."""
    return re.split(r"[=@]", override.lstrip("+~"), maxsplit=1)[0]


def value(override: str) -> str:
    """Return the value of an override as it was typed, without quotes around it."""
    return unquote(override.partition("=")[2])


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest unambiguous end of each key: `lr`, but `blur.p` and `flip.p`.

    Args:
        keys: With dots or slashes, possibly as typed (`+augment.ops.blur.p`).
    """
    words = {each: re.split(r"[./]", key(each)) for each in keys}

    def end(each: str) -> str:
        others = [words[other] for other in words if words[other] != words[each]]
        n = next((n for n in range(1, len(words[each])) if all(w[-n:] != words[each][-n:] for w in others)), 0)
        return ".".join(words[each][-n:])

    return {each: end(each) for each in keys}


def names_store(override: str) -> bool:
    """Tell whether an override sets the address of the MLflow store: `tracking.uri=...`, or `tracking={...}`."""
    name = key(override)
    return name == "tracking.uri" or name.startswith("tracking.uri.") or (name == "tracking" and "{" in override)


def unquote(text: str) -> str:
    """Return a text without quotes around it."""
    return re.sub(r"\\(['\"\\])", r"\1", text[1:-1]) if _is_quoted(text) else text


def quote(text: str) -> str:
    """Return a text quoted for Hydra, so that none of its characters is special."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped) + "'"


def check_places(overrides: Sequence[str]) -> None:
    """Stop if the name of a file or folder is empty, as a shell leaves it for an unset variable.

    An empty name would mean the current folder.

    Raises:
        InputError: Names the override.
    """
    for item in overrides:
        name, typed = key(item), value(item).strip()
        if name in _PLACES and "=" in item and (not typed or (name == "out" and typed == "null")):
            raise InputError(f"{item}: the name is empty; type {name}=NAME, or omit it")


def check_output(overrides: Sequence[str]) -> None:
    """Stop if results would overwrite inputs: a table, or a folder whose images the next run reads.

    Raises:
        InputError: Names both overrides.
    """
    typed = {key(item): value(item) for item in overrides if "=" in item}
    name = next((each for each in ("output", "out") if typed.get(each)), None)
    if name is None or not (out := user_path(typed[name])).is_dir():
        return
    for each in sorted(_INPUTS & typed.keys()):
        found = user_path(typed[each])
        if found.exists() and (found if found.is_dir() else found.parent).resolve() == out.resolve():
            what = f"is also the folder of {each}={typed[each]}"
            raise InputError(f"{name}={typed[name]}: {what}; name another folder")


def at_home(overrides: Sequence[str]) -> list[str]:
    """Return overrides with a run folder that starts with `~` written in full: a shell does not expand `out=~`.

    Raises:
        InputError: There is no such user.
    """
    return [
        f"out={quote(str(user_path(value(item))))}" if key(item) == "out" and value(item).startswith("~") else item
        for item in overrides
    ]


def quote_paths(overrides: Sequence[str]) -> list[str]:
    """Put values that are texts, e.g. files, folders and addresses, in quotes."""
    return [_quoted(item) for item in overrides]


def quote_unreadable(overrides: Sequence[str]) -> list[str]:
    """Quote the texts of a sweep that Hydra could not read; a comma outside of brackets still separates choices."""
    return [_quoted_choices(item) for item in overrides]


def as_typed(override: str) -> str:
    """Return an override without the quotes that `quote_paths` adds."""
    return f"{override.partition('=')[0]}={value(override)}" if key(override) in _LITERAL else override


def _quoted(override: str) -> str:
    typed = override.partition("=")[2]
    as_it_is = not typed or typed in ("null", "???") or _is_quoted(typed) or "${" in typed
    return override if as_it_is or key(override) not in _LITERAL else f"{override.partition('=')[0]}={quote(typed)}"


def _quoted_choices(override: str) -> str:
    typed = override.partition("=")[2]
    if key(override) not in _LITERAL or not typed or "${" in typed or _is_read(override):
        return override
    parts = [part if _is_quoted(part) else quote(part) for part in _choices(typed)]
    return f"{override.partition('=')[0]}={','.join(parts)}"


def _is_read(override: str) -> bool:
    """Tell whether Hydra reads an override, and as a text: neither a number nor true or false."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        found = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return found.is_sweep_override() or not isinstance(found.value(), int | float)


def _choices(text: str) -> list[str]:
    """Return the parts of a text between the commas outside of brackets and quotes."""
    parts, depth, quoted = [""], 0, ""
    for letter in text:
        if letter in "'\"" and quoted in ("", letter):
            quoted = "" if quoted else letter
        if not quoted:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not quoted and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
