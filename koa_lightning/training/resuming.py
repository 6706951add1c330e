"""Checks before a run is resumed, or a new one starts in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from koa_lightning.config import augment, renamed, run_folder
from koa_lightning.config.compose import plain, without_targets
from koa_lightning.errors import InputError

_FIXED = {
    "seed", "monitor", "mode", "data", "augment", "resize", "mix", "teacher", "model", "loss", "optimizer", "scheduler",
    "callbacks", "trainer.devices", "trainer.sync_batchnorm", "trainer.gradient_clip_val",
    "trainer.accumulate_grad_batches", "trainer.limit_train_batches",
}  # fmt: skip
_FREE = {
    "data.root", "data.table", "data.source.root", "data.source.table", "data.split_table", "data.cache_dir",
    "data.on_unreadable", "data.eval_batch_size", "data.allow_leakage", "data.on_device",
    "teacher.table",
    "model.weights", "model.label",
}  # fmt: skip
# settings that runs of older versions lack, with the values that those used
_YOUNGER = {
    "data.fix_polarity": False, "data.top": 0.0, "data.bottom": 1.0, "data.fraction": 1.0, "data.untrained_size": None,
    "data.fold_val": True,
    "resize.first": 1.0, "resize.last": 1.0, "resize.until": 0.6,
    "teacher.weight": 0.0, "teacher.per": "knee",
    "mix.mixup": 0.0, "mix.cutmix": 0.0, "mix.probability": 1.0, "mix.until": 1.0,
    "optimizer.unfreeze_every": 0, "optimizer.frozen_stages": 0, "optimizer.layer_decay": 1.0, "scheduler.tail": 0.0,
    "optimizer.scale_lr": "none", "trainer.sync_batchnorm": False,
}  # fmt: skip


def check_settings(
    cfg: DictConfig,
    folder: Path,
    epochs_done: int,
    *,
    network: str,
    loss: str | None,
    config: Mapping[str, Any],
    made_of: Mapping[str, str],
) -> None:
    """Stop if a resumed run would not be the same run.

    Args:
        cfg: The config `train`.
        folder: The run folder.
        epochs_done: Epochs that the resumed run has done.
        network: Name of the network in the checkpoint.
        loss: Name of the loss in the checkpoint.
        config: Config in the checkpoint, plain.
        made_of: Class names by key, in the checkpoint.

    Raises:
        InputError: A setting differs; the message names it.
    """
    if Path(cfg.ckpt).resolve().parent.parent != folder.resolve():
        raise InputError(f"ckpt={cfg.ckpt}: a resumed run stays in its folder, and out={cfg.out} is another")
    if epochs_done > cfg.trainer.max_epochs or (
        epochs_done == cfg.trainer.max_epochs and (folder / run_folder.DONE_FILE).exists()
    ):
        limited = " and type trainer.limit_epochs=null" if cfg.trainer.get("limit_epochs") else ""
        raise InputError(
            f"ckpt={cfg.ckpt}: all {epochs_done} epochs are done; raise trainer.max_epochs{limited} to train longer"
        )
    if network != cfg.model.name:
        raise InputError(
            f"ckpt={cfg.ckpt}: it holds {network}, but model.name={cfg.model.name}; type the same model=..."
        )
    then, now = _settings(config), _settings(without_targets(plain(cfg)))
    if augment.began_before_kornia(f"ckpt={cfg.ckpt}", config.get("augment") or {}):
        for settings in (then, now):
            for name in [each for each in settings if each.startswith("augment.")]:
                del settings[name]
    augment.check_same(f"ckpt={cfg.ckpt}", made_of, plain(cfg).get("augment", {}).get("ops") or {})
    now["loss"] = cfg.loss._target_
    then["loss"] = renamed.current(loss, [now["loss"]])
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            raise InputError(
                f"{name}={now.get(name)}: the run began with {then.get(name)}, and a resumed run keeps its settings; "
                "type the same, or start a new run"
            )


def check_free(folder: Path) -> None:
    """Stop if a new run would overwrite the files of another.

    Raises:
        InputError: The folder holds at least one epoch of another run.
    """
    made = [folder / "checkpoints" / "best.ckpt", folder / "history.csv"]
    if run_folder.is_main() and any(file.exists() for file in made):
        last = folder / "checkpoints" / "last.ckpt"
        go_on = f"type ckpt={last} to resume it, or " if last.exists() else "type "
        raise InputError(f"out={folder}: already holds a run; {go_on}another out=FOLDER for a new one")


def check_data(cfg: DictConfig, then: str, fingerprint: str) -> None:
    """Stop if the data differs from that of the run.

    Args:
        cfg: The config `train`.
        then: Fingerprint of the data in the checkpoint.
        fingerprint: Fingerprint of the data now.

    Raises:
        InputError: They differ.
    """
    if then != fingerprint:
        raise InputError(
            f"ckpt={cfg.ckpt}: it was trained on data {then}, but this is data {fingerprint}; resume on the same data"
        )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that define a run, flat; paths may change."""
    fixed = {name: value for name, value in run_folder.flat(config) if name.split(".")[0] in _FIXED or name in _FIXED}
    return _YOUNGER | {name: value for name, value in fixed.items() if name not in _FREE}
