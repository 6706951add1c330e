"""Where the configs are, whether their values are valid, and how a wrong key is reported. No heavy imports here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import figures, folders, schema
from koa_lightning.config.folders import choices_of as choices_of
from koa_lightning.config.folders import config_dir as config_dir
from koa_lightning.config.folders import groups as groups
from koa_lightning.config.kinds import typed
from koa_lightning.config.metrics import best_is as best_is
from koa_lightning.config.overrides import quote
from koa_lightning.errors import InputError

_WITHOUT_SPLITS = ("phantom", "folder")  # data of these has no official split


def nearest(word: str, known: list[str]) -> str:
    """Return `; did you mean 'x'?` for the known word most similar to this one, or an empty string."""
    likeness = {name: _likeness(word, name) for name in known}
    best = max(likeness, key=likeness.__getitem__, default="")
    if not best or likeness[best] < 0.5:
        # the last part of a dotted key may be right while its group is wrong
        tail = word.rsplit(".", 1)[-1]
        best = next((key for key in known if key.rsplit(".", 1)[-1] == tail), "")
    return f"; did you mean '{best}'?" if best else ""


def _likeness(word: str, name: str) -> float:
    """Return from 0 to 1 how similar a word is to a name, or to one part of it."""
    if sorted(word) == sorted(name):  # two letters changed places
        return 1.0
    compare = difflib.SequenceMatcher(b=word)

    def ratio(text: str) -> float:
        compare.set_seq1(text)
        return compare.ratio()

    return max(ratio(name), *(0.8 * ratio(part) for part in re.split(r"[._/]", name)))


def keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a config, branches too."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if not str(key).startswith("_"):
                yield f"{prefix}{key}"
                yield from keys(value, f"{prefix}{key}.")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return a config as plain, resolved containers."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def without_targets(node: Any) -> Any:
    """Return a copy without `_target_` and the like, so that nothing in it names code to run."""
    if isinstance(node, Mapping):
        return {key: without_targets(value) for key, value in node.items() if not str(key).startswith("_")}
    if isinstance(node, list | tuple):
        return [without_targets(value) for value in node]
    return node


def validate(cfg: DictConfig, command: str = "") -> None:
    """Check every value against the schema, and combinations of values, before anything heavy is imported.

    Args:
        cfg: Of a command, or a part of it.
        command: E.g. `train`; empty: any.

    Raises:
        InputError: Names the key, its value and the allowed values.
    """
    for key, value in _values(cfg):
        check_value(key, value, command)
    _check_together(cfg)


def check_value(key: str, value: Any, command: str = "") -> None:
    """Check one value against the schema.

    Args:
        key: With dots.
        value: Plain.
        command: E.g. `train`; empty: any.

    Raises:
        InputError: The value is not allowed.
    """
    kind = schema.kind_of(key, command)
    if kind is None:
        is_branch = key in schema.BRANCHES and not isinstance(value, Mapping)
        if is_branch and not (value is None and key in schema.BRANCHES_OR_NULL):
            raise InputError(f"{key}={typed(value)}: has keys of its own; type {_below(key)}=VALUE for one of them")
        return
    if reason := kind.wrong(value):
        raise InputError(f"{key}={typed(value)}: {reason}{nearest(typed(value), kind.known())}")


def _below(key: str) -> str:
    return next(each for each in schema.KEYS if each.startswith(f"{key}."))


def _values(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys and plain values that the schema knows, and any value where it expects further keys.

    Missing values are skipped, and so are the arguments of a third-party class.
    """
    if not str(node.get("_target_") or schema.OURS[0]).startswith(schema.OURS):
        return
    for name in map(str, node):
        key = f"{prefix}{name}"
        if name.startswith("_") or key == "hydra" or OmegaConf.is_missing(node, name):
            continue
        value = node[name]
        if isinstance(value, DictConfig) and schema.kind_of(key) is None:
            yield from _values(value, f"{key}.")
        else:
            yield key, OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _check_together(cfg: DictConfig) -> None:
    folds, fold = OmegaConf.select(cfg, "data.folds"), OmegaConf.select(cfg, "data.fold")
    if folds is not None and fold is not None and fold >= folds:
        raise InputError(f"data.fold={fold}: with data.folds={folds} it must be 0 to {folds - 1}")
    top, bottom = OmegaConf.select(cfg, "data.top", default=0.0), OmegaConf.select(cfg, "data.bottom", default=1.0)
    if top > bottom - 0.1:
        raise InputError(f"data.top={top}: must be at least 0.1 less than data.bottom={bottom} (shares of the height)")
    if folds is None and OmegaConf.select(cfg, "data.fold_val") is False:
        raise InputError("data.fold_val=false: has no effect without folds; type data.folds=5 too")
    if OmegaConf.select(cfg, "data.split_table") and OmegaConf.select(cfg, "data.split") != "table":
        raise InputError(f"data.split_table={cfg.data.split_table}: type data.split=table too")
    name = OmegaConf.select(cfg, "data.name")
    if name in _WITHOUT_SPLITS and OmegaConf.select(cfg, "data.split") == "official":
        raise InputError(f"data.split=official: data={name} has no splits of its own; type data.split=stratified")
    if cfg.get("figures") is not None:
        figures.check(cfg.figures)
    monitor, mode = str(cfg.get("monitor", "")), cfg.get("mode")
    right = best_is(monitor)
    if right and mode != right:
        raise InputError(f"mode={mode}: the best {monitor} is the {right}; type mode={right}")


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Compose a config outside of a command line, e.g. in a test or a notebook."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():  # inside a running entry point
        return hydra_compose(config_name, overrides)
    searched = ",".join(quote(f"file://{folder}") for folder in folders.typed())
    own = [f"hydra.searchpath=[{searched}]"] if searched else []
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra_compose(config_name, [*overrides, *own])
