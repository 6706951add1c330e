"""Where the configs are, what they may hold, and how a wrong key is named. No heavy imports here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.errors import InputError

_PACKAGE = Path(__file__).resolve().parent

# key -> (kind, lowest, highest); keys that a config lacks are passed over.
_NUMBERS: dict[str, tuple[type, float, float]] = {
    "seed": (int, 0, 2**32 - 1),
    "batch_size": (int, 1, 65536),
    "data.batch_size": (int, 1, 65536),
    "data.image_size": (int, 16, 4096),
    "data.val_fraction": (float, 0.0, 0.9),
    "data.test_fraction": (float, 0.0, 0.9),
    "data.folds": (int, 2, 1000),
    "data.fold": (int, 0, 999),
    "data.source.n_patients": (int, 1, 10_000_000),
    "trainer.max_epochs": (int, 1, 100_000),
    "model.drop_rate": (float, 0.0, 0.99),
    "model.drop_path_rate": (float, 0.0, 0.99),
    "optimizer.lr": (float, 1e-12, 1e3),
    "optimizer.head_lr": (float, 1e-12, 1e3),
    "optimizer.weight_decay": (float, 0.0, 1e3),
    "optimizer.head_only_epochs": (int, 0, 100_000),
    "explain.every_n_epochs": (int, 0, 100_000),
    "explain.n_worst": (int, 0, 1000),
}
_CHOICES: dict[str, tuple[str, ...]] = {
    "data.sampler": ("none", "balanced"),
    "data.split": ("official", "stratified"),
    "data.fit": ("letterbox", "stretch"),
    "data.canonical_side": ("L", "R"),
    "data.on_unreadable": ("stop", "skip"),
    "loss.class_weights": ("none", "balanced", "sqrt", "effective_number"),
    "trainer.precision": ("auto", "fp32", "bf16", "bf16-hybrid", "fp16"),
    "mode": ("max", "min"),
    "tta": ("none", "flip"),
}


def config_dir() -> Path:
    """Return the folder of the configs: inside the installed package, or `conf/` of a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def nearest(word: str, known: list[str]) -> str:
    """Return ` did you mean 'x'?` for the known word that looks most like this one, or an empty string."""
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not found:  # the last part of a dotted key may be right while its group is wrong
        tail = word.rsplit(".", 1)[-1]
        found = [key for key in known if key.rsplit(".", 1)[-1] == tail][:1]
    return f"; did you mean '{found[0]}'?" if found else ""


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


def validate(cfg: DictConfig) -> None:
    """Check ranges and choices before anything heavy is imported.

    Raises:
        InputError: Naming the key, its value and what it may be.
    """
    for key, (kind, low, high) in _NUMBERS.items():
        value = OmegaConf.select(cfg, key)
        if value is None:
            continue
        whole = isinstance(value, int) or (isinstance(value, float) and value == int(value))
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or (kind is int and not whole) or not low <= value <= high:
            noun = "a whole number" if kind is int else "a number"
            raise InputError(f"{key}={value}: must be {noun} from {low:g} to {high:g}")
    for key, choices in _CHOICES.items():
        value = OmegaConf.select(cfg, key)
        if value is not None and value not in choices:
            raise InputError(f"{key}={value}: must be one of {', '.join(choices)}{nearest(str(value), list(choices))}")
    folds, fold = OmegaConf.select(cfg, "data.folds"), OmegaConf.select(cfg, "data.fold")
    if folds is not None and fold is not None and fold >= folds:
        raise InputError(f"data.fold={fold}: with data.folds={folds} it must be 0 to {folds - 1}")


def choices_of(group: str) -> list[str]:
    """Return the names in a config group, e.g. `loss` -> ce, focal, ..."""
    folder = config_dir() / group
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))


def groups() -> list[str]:
    """Return the names of all config groups."""
    return sorted(path.name for path in config_dir().iterdir() if path.is_dir() and path.name != "hydra")


def explain_hydra(message: str, config_name: str) -> str:
    """Turn a composition error of Hydra into one line that names the wrong key and the nearest right one."""
    first = message.strip().splitlines()[0] if message.strip() else "the configuration cannot be composed"
    if found := re.search(r"Could not find '([^'/]+)/([^']+)'", message):
        group, choice = found.groups()
        known = choices_of(group)
        return f"{group}={choice}: no such choice{nearest(choice, known)} ({group} is one of: {', '.join(known)})"
    if (found := re.match(r"In '([^']+)': (.*)", first)) and found.group(1) != config_name:
        return f"conf/{found.group(1)}.yaml: {found.group(2)}"
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found.group(1).split("@")[0]
        known = [*groups(), *_known_keys(config_name)]
        return f"{key}: no such key in the configuration{nearest(key, known)} (all keys: add --cfg job)"
    if found := re.search(r"(?:missing EQUAL|mismatched input|token recognition|no viable|extraneous).*", message):
        return f"an override cannot be read: {first} (write key=value, quote values with special characters)"
    return first


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """Compose a config outside of a command line, e.g. in a test or a notebook."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if GlobalHydra.instance().is_initialized():  # inside a running entry point
        return hydra_compose(config_name, overrides)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return hydra_compose(config_name, overrides)


def _known_keys(config_name: str) -> list[str]:
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    return list(keys(OmegaConf.to_container(compose(config_name, []), resolve=False)))
