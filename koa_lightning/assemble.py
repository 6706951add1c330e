"""From a config to the objects of a run; each function makes one."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from koa_lightning import checkpoint, speed
from koa_lightning.data.cache import default_dir
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.losses.weights import class_weights
from koa_lightning.models import net as net_module
from koa_lightning.models import weights as w
from koa_lightning.models.grader import KneeGrader


def data_module(cfg: DictConfig, seed: int = 0, quiet: bool = False) -> KneeDataModule:
    """Return the data module of a data config (`cfg.data`); nothing is read yet."""
    from koa_lightning.data.cache import Preprocessing

    known = inspect.signature(KneeDataModule).parameters
    settings = {key: value for key, value in cfg.items() if key in known and key != "source"}
    preprocessing = Preprocessing(cfg.image_size, cfg.fit, cfg.canonical_side)
    return KneeDataModule(
        instantiate(cfg.source), preprocessing=preprocessing, seed=seed, quiet=quiet, **settings
    )  # fmt: skip


def loss(cfg: DictConfig, counts: list[int]) -> torch.nn.Module:
    """Return the loss; its class weights come from the grade counts of the train part."""
    return instantiate(cfg, class_weights=class_weights(cfg.class_weights, counts))


def spec(cfg: DictConfig, link: str) -> net_module.NetSpec:
    """Return what the network is built from."""
    mean, std = net_module.gray_statistics(cfg.name)
    return net_module.NetSpec(cfg.name, link, float(cfg.drop_rate), float(cfg.drop_path_rate), mean, std)


def plan(cfg: DictConfig, net: net_module.KneeNet, record: dict[str, Any] | None) -> speed.Plan:
    """Return how to compute; a resumed run computes as it did."""
    if record is not None and cfg.trainer.precision == "auto":
        return speed.Plan(**record["plan"])
    cuda = torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    return speed.choose(
        net,
        name=cfg.model.name,
        image_size=cfg.data.image_size,
        batch_size=cfg.data.batch_size,
        precision=cfg.trainer.precision,
        channels_last=cfg.trainer.channels_last,
        cuda=cuda,
        memory=Path(cfg.data.cache_dir).expanduser() if cfg.data.cache_dir else default_dir(),
        quiet=cfg.quiet,
    )


def steps(cfg: DictConfig, data: KneeDataModule) -> int:
    """Return the optimizer steps of the whole run."""
    batches = data.steps_per_epoch
    limit = cfg.trainer.limit_train_batches
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
    accumulated = -(-batches // (cfg.trainer.accumulate_grad_batches or 1))
    return max(1, accumulated) * cfg.trainer.max_epochs


def grader(cfg: DictConfig, data: KneeDataModule, resumed: checkpoint.Checkpoint | None) -> tuple[KneeGrader, speed.Plan]:
    """Return the Lightning module, ready to train, and how it computes."""
    objective = loss(cfg.loss, data.counts["train"])
    net_spec = spec(cfg.model, objective.link)  # type: ignore[arg-type]
    weights = w.Weights(str(resumed.record["weights"])) if resumed else w.find(cfg.model.name, str(cfg.model.weights))
    net = net_module.build(net_spec, None if resumed else weights)
    if resumed is None and weights.untrained:
        data.marks.append("untrained weights")
    chosen = plan(cfg, net, resumed.record if resumed else None)
    record = checkpoint.make_record(
        cfg=cfg,
        spec=net_spec,
        preprocessing=data.preprocessing,
        data={"name": data.name, "fingerprint": data.fingerprint, "counts": data.counts},
        marks=resumed.marks if resumed else data.marks,
        weights=weights.origin,
        plan=asdict(chosen),
    )
    if weights.reason:
        record["weights_reason"] = weights.reason
    module = KneeGrader(
        chosen.prepare(net),  # type: ignore[arg-type]
        objective,
        instantiate(cfg.augment),
        optimizer=instantiate(cfg.optimizer.factory),
        scheduler=instantiate(cfg.scheduler),
        lr=cfg.optimizer.lr,
        head_lr=cfg.optimizer.head_lr,
        weight_decay=cfg.optimizer.weight_decay,
        head_only_epochs=cfg.optimizer.head_only_epochs,
        total_steps=steps(cfg, data),
        monitor=cfg.monitor,
        mode=cfg.mode,
        seed=cfg.seed,
        record=record,
    )
    return module, chosen


def run_name(cfg: DictConfig) -> str:
    """Return the run's name: as given, or model and loss, and in a sweep what differs between its jobs."""
    if cfg.name:
        return str(cfg.name)
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    loss_name = choices.get("loss") or cfg.loss._target_.rsplit(".", 1)[-1].lower()
    parts = [str(cfg.model.label), str(loss_name)]
    if HydraConfig.initialized() and HydraConfig.get().job.get("num") is not None:
        parts += [
            item for item in HydraConfig.get().overrides.task if "." in item.split("=")[0] and "," not in item
            and item.split("=")[0] in _swept()
        ]  # fmt: skip
    return " ".join(["-".join(parts[:2]), *parts[2:]])


def _swept() -> set[str]:
    """Return the keys that this sweep gives several values."""
    import sys

    return {item.split("=")[0] for item in sys.argv[1:] if "=" in item and "," in item.split("=", 1)[1]}
