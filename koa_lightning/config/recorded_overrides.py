"""Overrides that a file brings along - a run folder, a run in a store, a database of sweeps - and may be used again.

They decide what code runs, so they come under a rule that what is typed does not: a `_target_` is one that the
installed configs or those of a typed `--config-dir` name, or one that is typed again; no setting of Hydra's own, and
nothing that OmegaConf works out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from koa_lightning.config import folders, renamed
from koa_lightning.config.augment import KORNIA
from koa_lightning.config.overrides import quote_paths
from koa_lightning.errors import InputError

TARGET = "_target_"
_NODE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")  # of another key of the config: a value, and no resolver
_CHOICE = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*")


def check(items: Sequence[str], where: str, typed: Sequence[str] = ()) -> list[str]:
    """Return overrides that a file brings along, all of which may be used again.

    Args:
        items: As they were read.
        where: The file or the run, for messages.
        typed: The overrides of this command line; a `_target_` among them may be used.

    Raises:
        InputError: Naming the override that may not, and how to use it all the same.
    """
    if reason := why_not(items, typed):
        raise InputError(f"{where}: {reason}; if you trust it, type it again on this command line")
    return list(items)


def listed(items: Any, where: str) -> list[str]:
    """Return overrides as they were read from a file, once they are a list of texts.

    Raises:
        InputError: They are something else.
    """
    if items is not None and not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
        raise InputError(f"{where}: is no list of overrides; it may be damaged, start a new run")
    return items or []


def why_not(items: Sequence[str], typed: Sequence[str] = ()) -> str:
    """Return which override may not be used again, and why; an empty string where all may.

    Args:
        items: Overrides that a file brings along.
        typed: The overrides of this command line; what is among them word for word may be used, and so may the
            targets that they name.
    """
    allowed = installed_targets() | set(_targets_of(typed))
    for item in items:
        if item not in typed and (reason := _why_not(item, allowed)):
            return f"its override {_short(item, 200)} {reason}"
    return ""


def installed_targets() -> frozenset[str]:
    """Return every `_target_` that the installed configs name, and those in the groups of a typed `--config-dir`.

    So are the operations of Kornia that only compute, and what 0.1 called some classes: a run folder of then is still
    understood.
    """
    files = sorted(folders.config_dir().rglob("*.yaml"))
    files += [
        file for folder in folders.typed() for group in folders.groups() for file in (folder / group).glob("*.yaml")
    ]
    found = {value for file in files for key, value in _entries(folders.plain(file)) if key == TARGET}
    return frozenset(found | set(renamed.aliases(found))) | KORNIA


def _why_not(item: str, allowed: frozenset[str] | set[str]) -> str:
    """Return why an override may not be taken over from a file, or an empty string."""
    if item.startswith("-"):
        return "is an option, not an override"
    try:
        parsed = _parsed(item)
        if parsed.is_sweep_override():
            return "names several values, and one run has one"
        values = list(_entries(parsed.value()))
    except (HydraException, ValueError, TypeError):
        return "cannot be read"
    path = [part for name in (parsed.key_or_group, parsed.package or "") for part in _path(name)]
    if any(_path(name)[:1] == ["hydra"] for name in (parsed.key_or_group, parsed.package or "")):
        return "is a setting of Hydra's own"
    if any(part.startswith("_") and part not in (TARGET, "_global_", "_group_", "_here_") for part in path):
        return "changes how an object is made"
    if path[-1:] == [TARGET]:
        values.append((TARGET, parsed.value()))
    for name, value in values:
        if name == TARGET and (not isinstance(value, str) or value not in allowed):
            return f"names code to run ({_short(value)}) that no installed config names"
        if name.startswith("_") and name != TARGET:
            return f"changes how an object is made ({name})"
    return _why_not_composed(item, parsed, [value for _, value in values])


def _why_not_composed(item: str, parsed: Override, values: Sequence[Any]) -> str:
    """Return why Hydra or OmegaConf would read something else for an override than it says, or an empty string."""
    if any("${" in _NODE.sub("", text) for text in (item, *(text for text in values if isinstance(text, str)))):
        return "holds ${...} that is worked out by a resolver"
    is_group = any((folder / parsed.key_or_group).is_dir() for folder in folders.all_folders())
    choices = [value for value in values if isinstance(value, str) and value]
    if is_group and not all(_CHOICE.fullmatch(choice) for choice in choices):
        return "names a config outside of the config folders"
    if "${" in parsed.key_or_group:
        return "has a key that is worked out"
    return ""


def _parsed(item: str) -> Override:
    """Return an override as Hydra reads it; places are in quotes by then."""
    return OverridesParser.create().parse_override(quote_paths([item])[0])


def _path(key: str) -> list[str]:
    return [part for part in re.split(r"[./:]", key) if part]


def _entries(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every entry of a value with the key that it stands under, in whatever depth; a key is its own entry too."""
    if isinstance(node, QuotedString):
        node = node.text
    if isinstance(node, Mapping):
        for name, value in node.items():
            inner = _entries(name)
            text = next(inner)[1]
            yield "", text
            found = list(_entries(value, str(text)))
            yield from found or [(str(text), None)]
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _entries(value, key)
    else:
        yield key, node


def _targets_of(typed: Sequence[str]) -> Iterator[str]:
    """Yield the targets that overrides of this command line name; one that cannot be read is reported later."""
    for item in typed:
        try:
            parsed = _parsed(item)
            value = parsed.value().list if parsed.is_choice_sweep() else parsed.value()  # type: ignore[union-attr]
        except (HydraException, ValueError, TypeError):
            continue
        last = TARGET if _path(parsed.key_or_group)[-1:] == [TARGET] else ""
        yield from (str(target) for name, target in _entries(value, last) if name == TARGET)


def _short(value: Any, most: int = 80) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def in_file(file: Path) -> Any:
    """Return what a YAML file of plain values holds.

    Raises:
        InputError: It cannot be read.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise InputError(f"{file}: cannot be read as YAML; it may be damaged, start a new run") from None
