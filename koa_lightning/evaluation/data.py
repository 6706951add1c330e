"""The knees that a checkpoint is measured on, prepared as it wants its images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.config import overrides
from koa_lightning.config.compose import validate
from koa_lightning.data.build import data_module
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.tracking.begin import mark_tags, open_run


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
    data.eval_batch_size = int(cfg.batch_size or read.record.eval_batch_size)
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
            raise InputError(f"{item}: the checkpoint takes its images with data.{name}={own}; omit the key")


def run_of(cfg: DictConfig, read: Checkpoint, data: KneeDataModule, marks: list[str]) -> Any:
    """Open the run that trained a checkpoint when its own data is measured plainly, else a new one.

    So it is for `last.ckpt`: the training run has the measures of the one that was chosen.

    Args:
        cfg: The config `eval`, or one that builds on it.
        read: The checkpoint.
        data: Prepared, of which `cfg.split` is measured.
        marks: What every figure and the run carry.
    """
    trained = read.record.tracking.run_id or ""
    plain_own = not cfg.get("data") and cfg.tta == "none" and cfg.split in ("val", "test") and read.path.stem != "last"
    name = f"eval {read.path.stem} on {data.name} {cfg.split}"
    run = open_run(
        cfg.tracking,
        Path(cfg.out),
        name,
        run_id=trained if plain_own else None,
        uri=read.record.tracking.uri or None,
        attach=True,
    )
    if run.run_id != trained:
        tags = {"evaluates": trained or str(read.path), "tta": cfg.tta, "split": cfg.split, "data": data.name}
        run.log_tags({**tags, "data.fingerprint": data.fingerprint, **mark_tags(marks)})
    return run
