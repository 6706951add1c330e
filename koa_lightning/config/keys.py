"""Which keys exist, and how an unknown one is reported. No heavy imports here."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import augment, folders, key_help, overrides, schema
from koa_lightning.config.compose import keys, nearest
from koa_lightning.config.folders import choices_of, groups
from koa_lightning.errors import InputError


def check(cfg: DictConfig, config_name: str, typed: Sequence[str] = (), folders: Sequence[str] = ()) -> None:
    """Stop if a config has a key that nothing reads: mistyped after a `+`, or in the user's own file.

    Args:
        cfg: As composed.
        config_name: The primary config, e.g. `train`.
        typed: The overrides.
        folders: Of `--config-dir`, for the message.

    Raises:
        InputError: Names the key.
    """
    _check_data_name(cfg, typed)
    known = set(known_keys(config_name))
    wrong = next((name for name in _fixed(cfg) if name not in known), None)
    if wrong is None:
        return
    item = next((item for item in typed if overrides.key(item).split(".")[0] == wrong), "")
    if folders and item.startswith("+"):  # Hydra treats an unknown group as a key
        raise InputError(
            f"{item}: there is no folder {wrong} in --config-dir {folders[0]}, and no such key in the configuration; "
            "type --config-dir with the folder that contains it"
        )
    raise InputError(unknown(wrong, config_name))


def _check_data_name(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Stop if the name of the data is typed; a checkpoint uses it to find its data again."""
    item = next((item for item in typed if overrides.key(item) == "data.name"), None)
    source = str(OmegaConf.select(cfg, "data.source._target_")).rsplit(".", 1)[-1]
    if item is not None and overrides.value(item) != source:
        known = choices_of("data")
        hint = nearest(overrides.value(item), known)
        raise InputError(f"{item}: the data is {source}{hint}; for another, type data= one of: {', '.join(known)}")


def check_choices(typed: Sequence[str]) -> None:
    """Stop if a group is typed without a choice, or with the base file of its choices.

    Args:
        typed: The overrides.

    Raises:
        InputError: Names the group and its choices.
    """
    for item in typed:
        group, choice = overrides.key(item), overrides.value(item)
        empty = "=" in item and (choice in ("", "null") or choice.startswith("_"))
        none = empty or item.startswith("~")  # a single word is not an override: it may be the name of a folder
        if none and group in groups():
            raise InputError(f"{item}: choose one of its choices ({group} is one of: {', '.join(choices_of(group))})")


def help_text(config_name: str) -> str:
    """Return the text of `--help`: the text in the config, the groups with their choices, and the values of each key.

    Hydra's own help reads every config, which takes too long for a start.

    Args:
        config_name: The primary config, e.g. `train`.
    """
    text = str(_loaded(config_name).hydra.help.template)
    text = text.replace("$GROUPS", "\n".join(f"{name}: {', '.join(choices_of(name))}" for name in groups()))
    of_each = key_help.lines(_files(config_name), config_name)
    return "\n".join([text.rstrip("\n"), "", "== What each key may be ==", *of_each])


def _files(config_name: str) -> Iterator[tuple[Path, str]]:
    """Yield the YAML files of a config with the prefix of their keys: its own files, then those of its groups."""
    built_on, chosen = _defaults(config_name)
    yield from ((_file(name), "") for name in (config_name, *built_on))
    for group in chosen:
        if group != "experiment":
            yield from ((file, f"{group}.") for file in folders.files_of(group))


def known_keys(config_name: str) -> list[str]:
    """Return the groups of a config and every key it may have under any choice, including those of `--config-dir`.

    Args:
        config_name: The primary config, e.g. `train`.
    """
    return _known_keys(config_name, folders.typed())


@functools.cache
def _known_keys(config_name: str, typed: tuple[Path, ...]) -> list[str]:
    built_on, chosen = _defaults(config_name)
    own = [key for name in (config_name, *built_on) for key in _keys_of(name) if key.split(".")[0] != "hydra"]
    of_groups = [f"{group}.{key}" for group in chosen if group != "experiment" for key in _of_group(group)]
    return list(dict.fromkeys([*chosen, *own, *of_groups]))


def unknown(key: str, config_name: str) -> str:
    """Return one line that says that the key is unknown, and which one was probably meant.

    Args:
        key: With dots.
        config_name: The primary config, e.g. `train`.
    """
    group, _, rest = key.partition(".")
    if group not in _defaults(config_name)[1]:
        group = rest = ""  # it belongs to another command
    if moved := augment.now(key):
        return moved
    if group == "sweep" and rest in _keys_of("sweep/_base"):
        return f"{key}: exists only in a sweep with Optuna; type sweep=tpe (random, grid, qmc, multi) too"
    holders = [choice for choice in choices_of(group) if rest in _keys_of(f"{group}/{choice}")] if rest else []
    if holders:
        return f"{key}: exists only with {group}={' or '.join(holders)}; type {group}=... too"
    of_choices = {f"{group}.{name}" for name in _of_group(group)} if rest else set()
    if key in of_choices:  # all choices have it, so the group itself is missing
        return f"{key}: no {group} is chosen; type {group}=... too ({group} is one of: {', '.join(choices_of(group))})"
    hint = nearest(key, [*sorted(of_choices), *known_keys(config_name)])
    return f"{key}: no such key in the configuration{hint} (all keys: add --cfg job)"


def explain_hydra(message: str, config_name: str) -> str:
    """Turn a composition error of Hydra into one line that names the wrong key and the nearest right one."""
    first = message.strip().splitlines()[0] if message.strip() else "the configuration cannot be composed"
    if found := re.search(r"Could not find '([^']+)/([^'/]+)'", message):
        group, choice = found.groups()
        if group == "hydra/launcher":
            hint = nearest(choice, choices_of(group))
            return f'{group}={choice}: is not installed{hint}; type pip install "koa-lightning[launchers]"'
        return _no_choice(group, choice)
    if (found := re.match(r"In '([^']+)': (.*)", first)) and found.group(1) != config_name:
        return f"conf/{found.group(1)}.yaml: {found.group(2)}"
    if found := re.search(r"Could not (?:override|delete(?: from config)?\.?) '([^']+)'", message):
        return unknown(found.group(1).split("@")[0], config_name)
    if re.search(r"missing EQUAL|mismatched input|token recognition|no viable|NoViableAlt|extraneous", message):
        reason = next(line for line in message.splitlines() if not line.startswith("Error parsing"))
        reason = reason.removeprefix("LexerNoViableAltException: ")
        return f"an override cannot be read: {reason} (write key=value, and values with special characters in quotes)"
    return first


def _no_choice(group: str, choice: str) -> str:
    known = choices_of(group)
    return f"{group}={choice}: no such choice{nearest(choice, known)} ({group} is one of: {', '.join(known)})"


def _fixed(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a composed config, except those below which users may add entries."""
    for name in map(str, node):
        key, child = f"{prefix}{name}", node._get_node(name)
        if name.startswith("_"):
            continue
        yield key
        if (
            isinstance(child, DictConfig)
            and key not in schema.FREE
            and not child._is_none()
            and "_target_" not in child
        ):
            yield from _fixed(child, f"{key}.")


def _of_group(group: str) -> Iterator[str]:
    yield from (name for each in groups() if (name := each.removeprefix(f"{group}/")) != each and "/" not in name)
    for file in folders.files_of(group):
        yield from _keys_of(f"{group}/{file.stem}")


def _file(name: str) -> Path:
    """Return the file of a config that Hydra has already found."""
    return folders.find(name) or folders.config_dir() / f"{name}.yaml"


def _loaded(name: str) -> DictConfig:
    return _parsed(_file(name))


@functools.cache
def _parsed(file: Path) -> DictConfig:
    return OmegaConf.load(file)  # type: ignore[return-value]


def _keys_of(name: str) -> list[str]:
    """Return the keys of one file of the configs."""
    content = folders.plain(_file(name))  # None for an unreadable user file; Hydra reports it if chosen
    return [key for key in keys(content) if key != "defaults"]


def _defaults(config_name: str) -> tuple[list[str], list[str]]:
    """Return the configs that this one builds on, and the groups of all of them."""
    defaults = _loaded(config_name).get("defaults", [])
    chosen = [str(key) for entry in defaults if isinstance(entry, Mapping) for key in entry]
    built_on = [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]
    of_all = [key for key in chosen if not key.startswith("override ")]
    for name in list(built_on):
        more, of_it = _defaults(name)
        built_on, of_all = [*built_on, *more], [*of_all, *of_it]
    return built_on, of_all
