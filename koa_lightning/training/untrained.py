"""Settings of a training without initial weights: a network with random weights needs other ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import overrides, run_folder

# Each key with the setting that replaces it; a typed optimizer brings its own learning rate.
_KEYS = {
    "optimizer.lr": "untrained.lr",
    "model.drop_rate": "untrained.drop_rate",
    "model.drop_path_rate": "untrained.drop_path_rate",
    "data.image_size": "data.untrained_size",
}
_EPOCHS = "trainer.max_epochs"


def typed(folder: Path) -> list[str] | None:
    """Return the overrides of a training; None if a program composed its config, which then does not change.

    Args:
        folder: The run folder.
    """
    if HydraConfig.initialized():
        return list(HydraConfig.get().overrides.task)
    return run_folder.recorded(folder)


def adapt(cfg: DictConfig, items: Sequence[str], recorded: Mapping[str, Any] | None = None) -> str:
    """Replace the settings that were not typed by those of `untrained`, in place; return these as a line.

    Args:
        cfg: The config `train`.
        items: The overrides that were typed.
        recorded: Plain config of the resumed run; that of a version without `untrained` does not change.
    """
    settings = cfg.get("untrained")
    if settings is None or (recorded is not None and not recorded.get("untrained")):
        return ""
    said = []
    for key, name in _KEYS.items():
        value = OmegaConf.select(cfg, name)
        if value is not None and not _is_typed(items, key, *(["optimizer"] if key == "optimizer.lr" else [])):
            OmegaConf.update(cfg, key, value)
            said.append(f"{key}={value}")
    if recorded is not None and not _is_typed(items, _EPOCHS):
        cfg.trainer.max_epochs = recorded.get("trainer", {}).get("max_epochs", cfg.trainer.max_epochs)
    return " ".join(said)


def lengthen(cfg: DictConfig, items: Sequence[str], steps: int) -> str:
    """Raise the epochs of a new training to `untrained.steps`, unless they were typed; return the change.

    Args:
        cfg: The config `train`, changed in place.
        items: The overrides that were typed.
        steps: Optimizer steps, as configured.
    """
    settings = cfg.get("untrained")
    if settings is None or steps >= settings.steps or _is_typed(items, _EPOCHS, "trainer.limit_train_batches"):
        return ""
    epochs = -(-settings.steps * cfg.trainer.max_epochs // steps)
    if cfg.trainer.get("limit_epochs"):
        epochs = min(epochs, cfg.trainer.limit_epochs)
    if epochs <= cfg.trainer.max_epochs:
        return ""
    cfg.trainer.max_epochs = epochs
    return f"{_EPOCHS}={epochs}"


def _is_typed(items: Sequence[str], *keys: str) -> bool:
    """Return whether one of these keys was typed."""
    return any(overrides.key(item) in keys for item in items)
