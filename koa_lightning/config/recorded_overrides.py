"""Overrides recorded in a file - a run folder, a run in a store, a database of sweeps - that may be used again.

They decide what code runs, so they must obey a rule that typed overrides need not. A `_target_` must be named by the
installed configs or those of a typed `--config-dir`, or be typed again. Hydra's own settings and OmegaConf's
resolvers are not allowed.
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
_NODE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")  # reference to another key of the config, not a resolver
_CHOICE = re.compile(r"[A-Za-z0-9_][\w.+-]*(/[A-Za-z0-9_][\w.+-]*)*")


def check(items: Sequence[str], where: str, typed: Sequence[str] = ()) -> list[str]:
    """Return recorded overrides, once all of them may be used again.

    Args:
        items: As read.
        where: The file or the run, for messages.
        typed: The overrides of this command line; a `_target_` among them is allowed.

    Raises:
        InputError: Names the forbidden override, and how to use it nevertheless.
    """
    if reason := why_not(items, typed):
        raise InputError(f"{where}: {reason}; if you trust it, type it again on this command line")
    return list(items)


def listed(items: Any, where: str) -> list[str]:
    """Return overrides read from a file, once they are a list of texts.

    Raises:
        InputError: They are not.
    """
    if items is not None and not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
        raise InputError(f"{where}: is not a list of overrides; it may be damaged: start a new run")
    return items or []


def why_not(items: Sequence[str], typed: Sequence[str] = ()) -> str:
    """Return which override may not be used again, and why; an empty string if all may.

    Args:
        items: Overrides recorded in a file.
        typed: The overrides of this command line; identical overrides are allowed, and so are the targets they name.
    """
    allowed = installed_targets() | set(_targets_of(typed))
    for item in items:
        if item not in typed and (reason := _why_not(item, allowed)):
            return f"its override {_short(item, 200)} {reason}"
    return ""


def installed_targets() -> frozenset[str]:
    """Return every `_target_` named by the installed configs, and by the groups of a typed `--config-dir`.

    This includes Kornia's operations that only compute, and class names of version 0.1, so that its run folders
    remain usable.
    """
    files = sorted(folders.config_dir().rglob("*.yaml"))
    files += [
        file for folder in folders.typed() for group in folders.groups() for file in (folder / group).glob("*.yaml")
    ]
    found = {value for file in files for key, value in _entries(folders.plain(file)) if key == TARGET}
    return frozenset(found | set(renamed.aliases(found))) | KORNIA


def _why_not(item: str, allowed: frozenset[str] | set[str]) -> str:
    """Return why an override may not be taken from a file, or an empty string."""
    if item.startswith("-"):
        return "is an option, not an override"
    try:
        parsed = _parsed(item)
        if parsed.is_sweep_override():
            return "has several values, but a run needs one"
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
            return f"names code ({_short(value)}) that no installed config uses"
        if name.startswith("_") and name != TARGET:
            return f"changes how an object is made ({name})"
    return _why_not_composed(item, parsed, [value for _, value in values])


def _why_not_composed(item: str, parsed: Override, values: Sequence[Any]) -> str:
    """Return why Hydra or OmegaConf would not read an override literally, or an empty string."""
    if any("${" in _NODE.sub("", text) for text in (item, *(text for text in values if isinstance(text, str)))):
        return "contains a resolver, ${...}"
    is_group = any((folder / parsed.key_or_group).is_dir() for folder in folders.all_folders())
    choices = [value for value in values if isinstance(value, str) and value]
    if is_group and not all(_CHOICE.fullmatch(choice) for choice in choices):
        return "names a config outside the config folders"
    if "${" in parsed.key_or_group:
        return "contains a resolver in its key"
    return ""


def _parsed(item: str) -> Override:
    """Return an override as Hydra reads it, with places in quotes."""
    return OverridesParser.create().parse_override(quote_paths([item])[0])


def _path(key: str) -> list[str]:
    return [part for part in re.split(r"[./:]", key) if part]


def _entries(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every entry of a value with its key, at any depth; a key is an entry of its own too."""
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
    """Yield the targets named by the overrides of this command line; unreadable overrides are reported later."""
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
    """Return the content of a YAML file of plain values.

    Raises:
        InputError: It cannot be read.
    """
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        raise InputError(f"{file}: cannot be read as YAML; it may be damaged: start a new run") from None
