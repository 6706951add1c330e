"""Command-line input besides `key=value`: words that name runs or tables, and folders derived from settings."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import overrides
from koa_lightning.config.compose import compose, plain
from koa_lightning.config.places import user_path
from koa_lightning.config.run_folder import flat
from koa_lightning.errors import InputError

SIDES = ("first", "second")
_SETTING = re.compile(r"~\S+|[+~]*[\w.@/:-]+=.*", re.DOTALL)
_OF_REPRODUCE = {"run", "run_it", "more", "quiet", "tracking.uri", "out"}
# Settings that may differ between two calls that resume the same cross-validation.
_FREE = (
    "out", "quiet", "parallel", "fresh", "tracking", "name", "explain", "ckpt", "data.source", "data.cache_dir",
    "calibration", "figures",
)  # fmt: skip


def with_runs(items: list[str]) -> list[str]:
    """Return the overrides of `compare`, with words that are not settings (`RUN RUN`) as `runs=[RUN,RUN]`.

    A name may contain `=` after a space, as the names of a sweep's jobs do.
    """
    runs = [item for item in items if not _SETTING.fullmatch(item)]
    if not runs:
        return items
    rest = [item for item in items if item not in runs]
    if "runs" in map(overrides.key, rest):
        raise InputError(f"{runs[0]}: runs=[...] lists runs too; type either RUN RUN or runs=[RUN,RUN], not both")
    return [*rest, f"runs=[{','.join(map(overrides.quote, runs))}]"]


def with_tables(items: list[str]) -> list[str]:
    """Return the overrides of `compare_predictions`, with two tables typed as A B as `first=A second=B`.

    Raises:
        InputError: More than two.
    """
    bare = [item for item in items if _is_bare(item)]
    if len(bare) > len(SIDES):
        raise InputError(f"{bare[2]}: compare_predictions takes two tables; type compare_predictions A B")
    named = [f"{side}={overrides.quote(item)}" for side, item in zip(SIDES, bare, strict=False)]
    return [*named, *(item for item in items if item not in bare)]


def _is_bare(item: str) -> bool:
    """Tell whether this is a file or folder rather than an override; its name may contain `=`."""
    return "=" not in item or (not item.startswith(tuple(f"{side}=" for side in SIDES)) and Path(item).exists())


def with_more(items: list[str]) -> list[str]:
    """Return the overrides of `reproduce`, with those of the run itself (`data.root=FOLDER`) in `more`."""
    rest = [item for item in items if overrides.key(item) in _OF_REPRODUCE or overrides.key(item).startswith("hydra")]
    more = [item for item in items if item not in rest]
    return [*rest, f"more=[{','.join(map(overrides.quote, more))}]"] if more else items


def with_folder(items: list[str]) -> list[str]:
    """Return the overrides of `cross_validate` including `out`, a folder derived from the settings."""
    if "out" in map(overrides.key, items):
        return items
    cfg = compose("cross_validate", overrides.quote_paths(items))
    return items if cfg.fresh is True else [*items, f"out={overrides.quote(default_folder(cfg))}"]


def default_folder(cfg: DictConfig) -> str:
    """Return the folder for a config `cross_validate` without one."""
    digest = hashlib.blake2b(json.dumps(settings(cfg), sort_keys=True).encode(), digest_size=5).hexdigest()
    return f"outputs/cv-{digest}"


def settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that define a cross-validation, flat, without those of output and appearance."""
    cfg = cfg.copy()
    name_places(cfg)
    entries = dict(flat(plain(cfg)))
    return {name: value for name, value in entries.items() if not f"{name}.".startswith(tuple(f"{f}." for f in _FREE))}


def name_places(cfg: DictConfig) -> None:
    """Make relative paths of the data absolute, so that the checkpoint can be evaluated from any folder."""
    for key in ("root", "table", "split_table"):
        if cfg.data.get(key):
            cfg.data[key] = str(user_path(cfg.data[key]).absolute())
    if OmegaConf.select(cfg, "teacher.table"):
        cfg.teacher.table = str(user_path(cfg.teacher.table).absolute())
    scheme, slashes, file = str(cfg.tracking.get("uri") or "").partition("sqlite:///")
    if slashes and not scheme:
        cfg.tracking.uri = f"{slashes}{user_path(file).absolute()}"
