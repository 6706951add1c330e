"""Build a loss from its config or from the record of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import folders, renamed
from koa_lightning.config.instantiate import made
from koa_lightning.losses.base import GradeLoss
from koa_lightning.losses.weights import class_weights


def loss(cfg: DictConfig, counts: list[int]) -> GradeLoss:
    """Return the loss; its class weights come from the grade counts of the train split."""
    return made(cfg, "loss", class_weights=class_weights(cfg.class_weights, counts))


def recorded_loss(target: str | None, settings: Mapping[str, Any], counts: list[int]) -> GradeLoss | None:
    """Return the loss that a checkpoint names.

    Its code comes from the installed configs and from the `--config-dir` that was typed, never from the checkpoint.

    Args:
        target: The loss's name; for None, or a name that no config has, the result is None.
        settings: The config group `loss` of the run, plain and without its name.
        counts: Knees of each grade in the training split.
    """
    targets = [content.get("_target_") for _, content in folders.contents("loss")]
    target = renamed.current(target, targets)
    if target not in targets:
        return None
    return loss(OmegaConf.create({**settings, "_target_": target}), counts)
