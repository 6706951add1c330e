"""The settings of a sweep, checked, and the name that follows from everything that makes its values comparable."""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import overrides
from koa_lightning.config.compose import best_is, check_value, keys, nearest
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.sweeps.study import public

_DIRECTIONS = {"max": "maximize", "maximize": "maximize", "min": "minimize", "minimize": "minimize"}
_REPEATS = {"fold": "data.fold"}


@dataclass(frozen=True)
class Settings:
    """The settings of `hydra_plugins.koa_sweeps.OptunaConf`."""

    method: str
    space: dict[str, Any]
    trials: int | None
    metrics: list[str]
    directions: list[str]
    seed: int
    startup_trials: int
    name: str | None
    storage: str | None
    pruner: dict[str, Any] | None
    repeats: int
    repeat: str
    n_jobs: int
    max_failures: int | None
    folder: str
    free: list[str]
    listener: dict[str, Any] | None
    ensemble: bool

    @property
    def repeat_key(self) -> str:
        """The override key that differs between the repeats of a trial."""
        return _REPEATS.get(self.repeat, self.repeat)


def read(given: Mapping[str, Any]) -> tuple[Settings, bool]:
    """Return the settings, and whether they come from a node `sweep` of the config.

    Raises:
        InputError: One of them is invalid.
    """
    flat = {key: _plain(value) for key, value in given.items()}
    nested = flat.pop("settings", None)
    known = [field.name for field in fields(Settings)]
    for key in nested or {}:
        if key not in known:
            raise InputError(f"sweep.{key}: no such setting{nearest(key, known)}")
    values = {**{key: value for key, value in flat.items() if key in known}, **(nested or {})}
    for key in ("metrics", "directions"):
        if values[key] is not None:
            values[key] = [values[key]] if isinstance(values[key], str) else list(values[key])
    if values["directions"] is None:
        values["directions"] = [best_of(metric) for metric in values["metrics"] or ()]
    for key, value in values.items():
        check_value(f"sweep.{key}", value)
    settings = Settings(**values)
    _check(settings)
    return settings, nested is not None


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _check(settings: Settings) -> None:
    if settings.trials is None and settings.method != "grid":
        raise InputError("sweep.trials=null: only a grid ends by itself; type sweep.trials=30")
    if not settings.metrics:
        raise InputError("sweep.metrics=[]: must name one metric, or several different ones")
    if len(settings.directions) != len(settings.metrics):
        raise InputError(
            f"sweep.directions={settings.directions}: must say max or min for each of {', '.join(settings.metrics)}"
        )
    if settings.ensemble and not settings.listener:
        raise InputError("sweep.ensemble=true: needs sweep.listener, which evaluates it")
    if settings.pruner and len(settings.metrics) > 1:
        raise InputError("sweep/pruner: pruning needs one metric; type sweep/pruner=none, or one of sweep.metrics")


def best_of(metric: str) -> str:
    """Return `min` or `max`: which value of a sweep's metric is best; `max` if that is unknown."""
    return "min" if metric == "seconds" else best_is(str(metric)) or "max"


def check_repeat(settings: Settings, config: DictConfig) -> None:
    """Check that the key that differs between the repeats of a trial holds a whole number to count up from.

    Args:
        settings: Settings of the sweep.
        config: Config of a job.

    Raises:
        InputError: It holds none.
    """
    key = str(settings.repeat_key)
    value = OmegaConf.select(config, key)
    if not isinstance(value, int) or isinstance(value, bool):
        hint = nearest(key, list(keys(OmegaConf.to_container(config, resolve=False))))
        raise InputError(f"sweep.repeat={settings.repeat}: must name a key with a whole number, such as seed{hint}")


def directions(settings: Settings) -> list[str]:
    """Return maximize or minimize for each metric."""
    return [_DIRECTIONS[word] for word in settings.directions]


def fingerprint(settings: Settings, space: Mapping[str, str], config: DictConfig) -> str:
    """Return a digest of everything that makes the values of trials comparable.

    Args:
        settings: Settings of the sweep.
        space: The search space, as typed.
        config: Config of a job; the keys in `settings.free`, Hydra's and the sweep's are omitted.
    """
    plain: Any = OmegaConf.to_container(config, resolve=False)
    for key in ("hydra", "sweep", *settings.free):
        _drop(plain, key.split("."))
    asked = [settings.method, settings.seed, settings.metrics, directions(settings), settings.pruner, settings.repeats]
    plain = json.dumps([plain, dict(sorted(space.items())), asked, settings.repeat_key], sort_keys=True, default=str)
    return hashlib.blake2b(plain.encode(), digest_size=5).hexdigest()


def _drop(node: Any, path: list[str]) -> None:
    for name in path[:-1]:
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(path[-1], None)


def command(config: DictConfig) -> str:
    """Return the command line that resumes a sweep, without a password."""
    hydra = [str(item) for item in config.hydra.overrides.hydra if overrides.key(str(item)) != "hydra.mode"]
    typed = [public(str(item)) for item in [*hydra, *config.hydra.overrides.task]]
    return f"{program()} {shlex.join(['-m', *typed])}"


def program() -> str:
    """Return the command that starts this program, e.g. `python -m koa_lightning.train`."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return shlex.join(["python", *(["-m", spec.name.removesuffix(".__main__")] if spec else [sys.argv[0]])])


def folder(settings: Settings, name: str) -> Path:
    """Return the folder of the runs of a sweep."""
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return user_path(settings.folder.replace("{name}", safe)).absolute()


def difference(then: Mapping[str, Any], space: Mapping[str, str], fixed: Sequence[str], settings: Settings) -> str:
    """Return in words how a study (its attributes) and this sweep differ.

    Args:
        then: Attributes of the study.
        space: The search space of this sweep.
        fixed: The overrides that do not vary in this sweep.
        settings: Settings of this sweep.
    """
    old = then.get("koa_space") or {}
    for key in sorted(old.keys() | space.keys()):
        if old.get(key) != space.get(key):
            return f"there {key} is {old.get(key, 'fixed')}, here {space.get(key, 'fixed')}"
    if then.get("koa_metrics") != settings.metrics:
        return f"there the metric is {', '.join(then.get('koa_metrics') or ['another'])}"
    other = sorted(set(then.get("koa_fixed") or []) ^ set(fixed))
    return f"they differ in {', '.join(other)}" if other else "its method, seed, pruner, repeats or configs differ"
