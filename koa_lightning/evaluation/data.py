"""The knees that a checkpoint is evaluated on, with its preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
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
from koa_lightning.tracking.begin import caveat_tags, open_run


def data_for(cfg: DictConfig, read: Checkpoint, typed: Sequence[str] | None = None) -> KneeDataModule:
    """Return the data to evaluate on, with the checkpoint's preprocessing; nothing is read yet.

    Args:
        cfg: The config `eval`, or one with its `data`, `batch_size` and `quiet`.
        read: The checkpoint.
        typed: The overrides; None: those of this command line.

    Raises:
        InputError: A typed key has no effect, or contradicts the checkpoint's preprocessing.
    """
    _check_typed(read, _of_command_line() if typed is None else typed)
    config = cfg.data if cfg.get("data") else read.data_config()
    validate(OmegaConf.create({"data": config}))  # a checkpoint may have been edited
    data = data_module(config, quiet=cfg.quiet)
    data.preprocessing = read.preprocessing
    data.eval_batch_size = int(cfg.batch_size or read.record.eval_batch_size)
    return data


def _of_command_line() -> list[str]:
    return [str(item) for item in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []


def _check_typed(read: Checkpoint, typed: Sequence[str]) -> None:
    """Refuse typed data settings that differ from the checkpoint's preprocessing."""
    for item in typed:
        name = overrides.key(item).removeprefix("data.")
        if overrides.key(item) in ("data.batch_size", "data.eval_batch_size"):
            raise InputError(f"{item}: has no effect here; type batch_size=N")
        if not overrides.key(item).startswith("data.") or name not in vars(read.preprocessing):
            continue
        own = getattr(read.preprocessing, name)
        if yaml.safe_load(overrides.value(item)) != own:
            raise InputError(f"{item}: the checkpoint requires data.{name}={own}; omit the key")


def run_of(cfg: DictConfig, read: Checkpoint, data: KneeDataModule, caveats: list[str]) -> Any:
    """Open the training run of a checkpoint if its own data is evaluated with the default settings, else a new run.

    `last.ckpt` also gets a new run: the training run has the metrics of the checkpoint that was chosen.

    Args:
        cfg: The config `eval`, or one that builds on it.
        read: The checkpoint.
        data: Prepared, with the split that is evaluated.
        caveats: The caveats of the run and of every figure.
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
        run.log_tags({**tags, "data.fingerprint": data.fingerprint, **caveat_tags(caveats)})
    return run
