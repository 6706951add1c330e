"""The knees that a checkpoint is measured on, prepared as it wants its images."""

from __future__ import annotations

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint.record import Checkpoint
from koa_lightning.config import overrides
from koa_lightning.config.compose import validate
from koa_lightning.data.build import data_module
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError


def data_of(cfg: DictConfig, read: Checkpoint, part: str) -> KneeDataModule:
    """Return a part of the data that `cfg.data` names, or of the checkpoint's, prepared as it wants its images."""
    return data_for(cfg, read).prepare((part,))


def data_for(cfg: DictConfig, read: Checkpoint) -> KneeDataModule:
    """Return the data to evaluate on, with the preprocessing that the checkpoint wants; nothing is read yet."""
    _check_typed(read)
    config = cfg.data if cfg.get("data") else read.data_config()
    validate(OmegaConf.create({"data": config}))  # a checkpoint may have been changed
    data = data_module(config, quiet=cfg.quiet)
    data.preprocessing = read.preprocessing
    trained = read.record["config"]["data"]
    data.eval_batch_size = int(cfg.batch_size or trained["eval_batch_size"] or 2 * trained["batch_size"])
    return data


def _check_typed(read: Checkpoint) -> None:
    """Refuse settings of the data that a checkpoint brings along, where others are typed."""
    if not HydraConfig.initialized():
        return
    for item in map(str, HydraConfig.get().overrides.task):
        name = overrides.key(item).removeprefix("data.")
        if overrides.key(item) in ("data.batch_size", "data.eval_batch_size"):
            raise InputError(f"{item}: has no effect here; type batch_size=N")
        if not overrides.key(item).startswith("data.") or name not in vars(read.preprocessing):
            continue
        own = getattr(read.preprocessing, name)
        if yaml.safe_load(overrides.value(item)) != own:
            raise InputError(f"{item}: the checkpoint takes its images with data.{name}={own}; leave it away")
