"""From a data config to the data module; no data is read yet."""

from __future__ import annotations

import inspect
from typing import Any

from omegaconf import DictConfig

from koa_lightning.config.instantiate import made
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.split_settings import base_folder


def source_of(cfg: DictConfig) -> str:
    """Return the origin of a data config's knees: its table, its folder, or its name."""
    return str(cfg.get("table") or cfg.get("root") or cfg.name)


def data_module(cfg: DictConfig, seed: int = 0, quiet: bool = False) -> KneeDataModule:
    """Return the data module of a data config (`cfg.data`); no data is read yet."""
    known = inspect.signature(KneeDataModule).parameters
    settings: dict[str, Any] = {str(k): v for k, v in cfg.items() if k in known and k != "source"}
    settings |= {"base": base_folder(cfg.get("root"), cfg.get("table")), "seed": seed, "quiet": quiet}
    preprocessing = Preprocessing(
        cfg.image_size, cfg.fit, cfg.canonical_side, cfg.fix_polarity, float(cfg.top), float(cfg.bottom)
    )
    return KneeDataModule(made(cfg.source, "data.source"), preprocessing=preprocessing, **settings)
