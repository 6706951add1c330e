"""Write a trial as a command line and as a config file that composes. No heavy imports here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import compose, config_dir
from koa_lightning.config.overrides import key, names_store, quote
from koa_lightning.config.places import replace_text
from koa_lightning.errors import InputError

PROGRAM = "python -m koa_lightning.train"
_ABSENT = object()
_OF_SWEEP = r"(hydra|sweep)([./@]|$)|(out|ckpt|quiet|tracking\.(parent|run_name))$"
_NAME = re.compile(r"[A-Za-z_][\w-]*")  # of a folder that Hydra takes for a config group


def of_trial(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that define a trial, without those that only placed it in its sweep."""
    return [item for item in overrides if not re.match(_OF_SWEEP, key(item)) and not names_store(item)]


def command(overrides: Sequence[str]) -> str:
    """Return the command line that trains with these overrides."""
    return shlex.join([*PROGRAM.split(), *overrides])


def use(file: Path) -> list[str]:
    """Return the arguments with which `train` uses a config file, wherever it lies.

    Its folder, or the first folder above that can be one, becomes a config group beside those of the package.

    Raises:
        InputError: The file has another ending, or no folder above it can be a config group.
    """
    if file.suffix != ".yaml":
        raise InputError(f"best={file}: must end in .yaml")
    path, here = file.absolute().with_suffix(""), Path.cwd()
    places = [(Path(), path.relative_to(here).parts)] if path.is_relative_to(here) else []
    places += [(Path(*path.parts[:i]), path.parts[i:]) for i in range(len(path.parts) - 2, 0, -1)]
    for folder, (group, *choice) in places:
        if choice and _NAME.fullmatch(group) and not (config_dir() / group).is_dir():
            return ["--config-dir", str(folder), f"+{group}={'/'.join(choice)}"]
    raise InputError(f"best={file}: its folder must have a plain name, as in best=experiments/NAME/best.yaml")


def write(file: Path, overrides: Sequence[str], notes: Sequence[str]) -> list[str]:
    """Write a config file that composes to the same config as the overrides, and check that it does.

    Args:
        file: Ends in .yaml; an older file is replaced.
        overrides: As typed; groups are overridden in its defaults list, values are nested.
        notes: Lines of comment, e.g. the values of the trial.

    Returns:
        The keys that differ from the composition of the overrides, as a file cannot delete a key; empty if they
        agree.

    Raises:
        InputError: The file has another ending, or its place cannot be a config group.
    """
    taken = use(file)
    defaults, values = _sort_out(overrides)
    head = ["@package _global_", shlex.join([*PROGRAM.split(), *taken]), *notes, DISCLAIMER]
    text = "".join(f"# {line}\n" for line in head)
    text += OmegaConf.to_yaml(OmegaConf.create({"defaults": defaults})) if defaults else ""
    text += OmegaConf.to_yaml(values) if values else ""
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_text(file, text)
    return _differing(overrides, taken)


def _sort_out(overrides: Sequence[str]) -> tuple[list[Any], DictConfig]:
    """Return the defaults list and the nested values that are equivalent to overrides; deletions are skipped."""
    groups: dict[str, Any] = {}
    values = OmegaConf.create({})
    for item in OverridesParser.create().parse_overrides(list(overrides)):
        if item.is_delete():
            continue
        name, value = item.key_or_group, item.value()
        if (config_dir() / name).is_dir():
            group = f"/{name}" + (f"@{item.package}" if item.package else "")
            groups[group if item.is_add() else f"override {group}"] = value
        else:
            OmegaConf.update(values, name, value, force_add=True)
    return [{name: value} for name, value in groups.items()], values


def _differing(typed: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the keys in which the written file, used with the arguments of `use`, differs from the typed overrides."""
    search = f"hydra.searchpath=[{quote(f'file://{Path(taken[1]).absolute()}')}]"
    one, other = (compose("train", items) for items in (list(typed), [search, taken[2]]))
    return list(_differences(OmegaConf.to_container(one), OmegaConf.to_container(other)))


def _differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(name, _ABSENT), other.get(name, _ABSENT), f"{where}.{name}".lstrip("."))
    elif one != other:
        yield where
