"""Build the objects of a run from its config; each function makes one."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from koa_lightning import __version__
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.checkpoint.record import CheckpointRecord, TrainingData
from koa_lightning.config import overrides, trial
from koa_lightning.config.addresses import without_passwords
from koa_lightning.config.compose import plain, without_targets
from koa_lightning.config.instantiate import made
from koa_lightning.config.places import user_path
from koa_lightning.config.run_folder import is_main
from koa_lightning.data.cache import default_dir
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.manifest import GRADE_NAMES
from koa_lightning.errors import InputError
from koa_lightning.losses.build import loss as build_loss
from koa_lightning.models import net as net_module
from koa_lightning.models import weights as w
from koa_lightning.models.plan import Plan
from koa_lightning.training import compiling, devices, joint_norm, precision
from koa_lightning.training.augmentation import augmentation
from koa_lightning.training.callbacks import SpeedWatch
from koa_lightning.training.module import KneeGrader

_IMITATED = ", imitated by a CPU without bf16"
_USUAL_SEED = 42  # of conf/train.yaml


def check_device(accelerator: str) -> None:
    """Stop if a GPU is requested but none is available.

    Raises:
        InputError: No GPU is available.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available() and not torch.backends.mps.is_available():
        raise InputError(f"trainer.accelerator={accelerator}: torch finds no GPU here; type trainer=cpu, or auto")


def device_for(accelerator: str) -> torch.device:
    """Return the device that grades after a training on this kind of accelerator."""
    return torch.device("cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu")


def plan(cfg: DictConfig, net: net_module.KneeNet, record: CheckpointRecord | None) -> Plan:
    """Return the plan of computation; a resumed run keeps its plan."""
    cuda = torch.cuda.is_available() and cfg.trainer.accelerator != "cpu"
    before = record.plan if record is not None and cfg.trainer.precision == "auto" else None
    chosen = before or precision.choose(
        net,
        name=cfg.model.name,
        image_size=cfg.data.image_size,
        batch_size=cfg.data.batch_size,
        precision=cfg.trainer.precision,
        channels_last=cfg.trainer.channels_last,
        cuda=cuda,
        memory=_memory(cfg.data.cache_dir),
        quiet=cfg.quiet,
    )
    reason = chosen.reason.removesuffix(_IMITATED)  # the run may continue on another machine
    if not cuda and chosen.imitated:
        slow = "this CPU has no bf16 and imitates it, about ten times slower than fp32; type trainer.precision=fp32"
        trial.say_once(f"WARNING: {slow}", warning=True)
        reason += _IMITATED
    return replace(chosen, reason=reason)


def _memory(cache_dir: str | None) -> Path:
    return user_path(cache_dir) if cache_dir else default_dir()


def speed_watch(cfg: DictConfig, plan: Plan) -> SpeedWatch | None:
    """Return a callback that compares the speed of a training with the measured one; None if the two cannot compare."""
    frozen = cfg.optimizer.head_only_epochs or cfg.optimizer.unfreeze_every or cfg.optimizer.frozen_stages
    if cfg.trainer.precision != "auto" or frozen or min(cfg.resize.get("first", 1), cfg.resize.get("last", 1)) < 1:
        return None
    key = precision.key_of(cfg.model.name, cfg.data.image_size, cfg.data.batch_size, cfg.trainer.channels_last)

    def heard(images_a_second: float) -> None:
        if line := precision.heard(_memory(cfg.data.cache_dir) / precision.FILE, key, plan.precision, images_a_second):
            print(f"WARNING: {line}", file=sys.stderr)

    return SpeedWatch(cfg.data.batch_size, heard)


def steps(cfg: DictConfig, data: KneeDataModule, shares: int = 1) -> int:
    """Return the optimizer steps of the whole run; each of several devices takes its share of the knees.

    Raises:
        InputError: A share is smaller than a batch.
    """
    share = len(data.datasets["train"]) // shares
    if shares > 1 and share < data.batch_size:
        raise InputError(
            f"data.batch_size={data.batch_size}: each of {shares} devices has {share} knees to train on; type "
            f"data.batch_size={share} or less, or fewer trainer.devices"
        )
    batches = max(1, share // data.batch_size)
    limit = cfg.trainer.limit_train_batches
    if limit is not None:
        batches = min(batches, limit) if isinstance(limit, int) else max(1, int(batches * limit))
    accumulated = -(-batches // (cfg.trainer.accumulate_grad_batches or 1))
    return max(1, accumulated) * cfg.trainer.max_epochs


def first_weights(cfg: DictConfig, resumed: Checkpoint | None) -> w.Weights:
    """Return the initial weights of a training; for a resumed run, only their origin.

    Raises:
        InputError: There is no such model, or its weights are not available.
    """
    net_module.check_name(cfg.model.name)
    if resumed is None:
        return w.find(cfg.model.name, str(cfg.model.weights))
    origin = resumed.record.weights
    return w.Weights(origin, None if origin == "none" else {})


def grader(
    cfg: DictConfig,
    data: KneeDataModule,
    resumed: Checkpoint | None,
    n_devices: int = 1,
    weights: w.Weights | None = None,
) -> tuple[KneeGrader, Plan]:
    """Return the Lightning module, ready to train, and its plan; initial weights that are not given are looked up."""
    weights = weights or first_weights(cfg, resumed)
    objective = build_loss(cfg.loss, data.counts["train"])
    model = cfg.model
    mean, std = net_module.gray_statistics(model.name)
    net_spec = net_module.NetSpec(
        model.name, objective.link, float(model.drop_rate), float(model.drop_path_rate), mean, std, cfg.data.image_size
    )
    net = net_module.build(net_spec, None if resumed else weights)
    if resumed is None and weights.untrained:
        data.caveats.append("no pretrained weights")
    chosen = plan(cfg, net, resumed.record if resumed else None)
    optimizer = made(cfg.optimizer.factory, "optimizer.factory")
    if chosen.precision == "fp16" and optimizer.keywords.get("fused"):
        optimizer = functools.partial(optimizer, fused=False)  # fused, it would clip gradients that are still scaled
    if optimizer.func is torch.optim.SGD and optimizer.keywords.get("fused") and cfg.optimizer.unfreeze_every:
        optimizer = functools.partial(optimizer, fused=False)  # fused, it needs the momentum of all parameters at once
    chosen.prepare(net)
    teacher = made(cfg.teacher, "teacher")
    teacher.prepare(*data.rows_of(("train", "val")))
    joined = joint_norm.join(net) if n_devices > 1 and cfg.trainer.sync_batchnorm else 0
    if n_devices > 1 and is_main():
        how, accumulated = cfg.optimizer.scale_lr, data.batch_size * (cfg.trainer.accumulate_grad_batches or 1)
        print(devices.words(n_devices, accumulated, how, cfg.optimizer.lr, joined), flush=True)
    head_lr = cfg.optimizer.head_lr
    module = KneeGrader(
        net,
        objective,
        augmentation(cfg.augment, cfg.data.image_size),
        resize=made(cfg.resize, "resize"),
        mix=made(cfg.mix, "mix"),
        teacher=teacher,
        optimizer=optimizer,
        scheduler=made(cfg.scheduler, "scheduler"),
        lr=devices.scaled(cfg.optimizer.lr, n_devices, cfg.optimizer.scale_lr),
        head_lr=None if head_lr is None else devices.scaled(head_lr, n_devices, cfg.optimizer.scale_lr),
        weight_decay=cfg.optimizer.weight_decay,
        head_only_epochs=cfg.optimizer.head_only_epochs,
        unfreeze_every=cfg.optimizer.unfreeze_every,
        frozen_stages=cfg.optimizer.frozen_stages,
        layer_decay=cfg.optimizer.layer_decay,
        total_steps=steps(cfg, data, n_devices),
        monitor=cfg.monitor,
        mode=cfg.mode,
        seed=cfg.seed,
        record=record(cfg, data, net.spec, chosen, weights, resumed),
    )
    try:  # fail now: Lightning would make them after the run has begun
        module.configure_optimizers()
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer, scheduler: {str(error).splitlines()[0]}") from error
    return module, chosen


def compile_it(cfg: DictConfig, module: KneeGrader, plan: Plan, device: torch.device) -> str:
    """Compile the network of a training if configured; return a line with cost and gain.

    Raises:
        InputError: It cannot be compiled on this machine.
    """
    mode = cfg.trainer.compile
    if mode == "none":
        return ""
    module.fast = (compiling.compiled(module.net, mode),)
    if not is_main():
        return ""
    found = compiling.timed(module.net, mode, plan, cfg.data.batch_size, cfg.data.image_size, device)
    line = f"trainer.compile={mode}, {'channels_last' if plan.channels_last else 'contiguous'}: "
    line += found.words(module.total_steps)
    print(line, flush=True)
    return line


def record(
    cfg: DictConfig,
    data: KneeDataModule,
    net: net_module.NetSpec,
    chosen: Plan,
    weights: w.Weights,
    resumed: Checkpoint | None,
) -> CheckpointRecord:
    """Return the record for every checkpoint of the run; it names no code to run and holds no password.

    Args:
        cfg: The whole config.
        data: Prepared.
        net: Specification of the network.
        chosen: The plan of computation.
        weights: The initial weights.
        resumed: The checkpoint that the run resumes from.
    """
    ops = {f"augment.ops.{name}": op for name, op in (cfg.augment.ops or {}).items() if op is not None}
    parts = {"optimizer": cfg.optimizer.factory, "scheduler": cfg.scheduler, **ops}
    before = resumed.record if resumed else None
    return CheckpointRecord(
        version=__version__,
        net=net,
        preprocessing=data.preprocessing,
        grade_names=tuple(GRADE_NAMES),
        config=without_passwords(without_targets(plain(cfg))),
        data=TrainingData(str(data.name), data.fingerprint, data.counts, data.split_name),
        caveats=tuple(dict.fromkeys([*(before.caveats if before else ()), *data.caveats])),
        weights=weights.origin,
        plan=chosen,
        loss=str(cfg.loss._target_),
        made_of={name: str(node._target_).rsplit(".", 1)[-1] for name, node in parts.items()},  # for people to read
        weights_reason=(before.weights_reason if before else weights.reason) or None,
    )


def run_name(cfg: DictConfig, *, all_folds: bool = False) -> str:
    """Return the run's name: as configured, or made of what distinguishes runs; in a sweep, varied keys come first.

    Args:
        cfg: The config `train`.
        all_folds: Whether this is a cross-validation, which has no fold of its own.
    """
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    loss_name = hydra.runtime.choices.get("loss") if hydra else cfg.loss._target_.rsplit(".", 1)[-1].lower()
    name = str(cfg.name or f"{cfg.model.label}-{loss_name}")
    scale = [] if cfg.name else _scale(cfg, all_folds)
    if hydra is None or hydra.mode != RunMode.MULTIRUN:
        return " ".join([name, *scale])
    job = trial.current() or trial.Trial(varied=_typed_to_vary())
    said = set() if cfg.name else {"model", "loss"}
    shown = [item for item in job.differs(list(hydra.overrides.task)) if overrides.key(item) not in said]
    called = overrides.short_names([overrides.key(item) for item in shown])
    # Lists of runs cut off long names, so trials of one sweep differ at the start.
    varied = [f"{called[overrides.key(item)]}={_short(item)}" for item in shown]
    return " ".join([name, *varied, *(word for word in scale if word.replace(" ", "=") not in varied)])


def _scale(cfg: DictConfig, all_folds: bool) -> list[str]:
    """Return what distinguishes runs in a list: data and its share, image size, epochs, and an unusual seed."""
    data = f"{cfg.data.fraction:.0%} of {cfg.data.name}" if cfg.data.fraction < 1 else str(cfg.data.name)
    fold = [f"fold {cfg.data.fold} of {cfg.data.folds}"] if cfg.data.folds and not all_folds else []
    seed = [f"seed {cfg.seed}"] if cfg.seed != _USUAL_SEED else []
    return [data, *fold, f"{cfg.data.image_size}px", f"{cfg.trainer.max_epochs}ep", *seed]


def _typed_to_vary() -> tuple[str, ...]:
    """Return the varied keys of a sweep that does not pass them to its jobs, such as `hydra/sweeper=basic`."""
    typed = OverridesParser.create().parse_overrides(overrides.sort_out(sys.argv[1:])[1])
    return tuple(item.key_or_group for item in typed if item.is_sweep_override())


def _short(override: str) -> str:
    """Return the value of an override; long numbers get three digits."""
    value = overrides.value(override)
    try:
        return f"{float(value):.3g}" if len(value) > 7 else value
    except ValueError:
        return value
