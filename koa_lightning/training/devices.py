"""The number of devices of a training, and what it means for learning rate, batch norms and strategy."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy

from koa_lightning.errors import InputError

_STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count(accelerator: str, devices: Any) -> int:
    """Return how many devices a training uses; on a CPU a device is a process.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`: a number, -1 or `auto` for all GPUs, or the numbers of some.

    Raises:
        InputError: There are fewer, or devices of a CPU are requested by number.
    """
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    there = (torch.cuda.device_count() or 1) if on_gpu else cores()
    what = "GPUs" if on_gpu else "cores"
    if not isinstance(devices, int | str):
        wanted = [int(each) for each in devices]
        if not on_gpu:
            raise InputError(f"trainer.devices={wanted}: devices of a CPU have no numbers; type trainer.devices=1")
        if not wanted or len(set(wanted)) != len(wanted) or max(wanted) >= there:
            raise InputError(f"trainer.devices={wanted}: there are {there} GPUs here; name some of 0 to {there - 1}")
        return len(wanted)
    if devices in (-1, "auto"):
        return there if on_gpu else 1
    if devices == 0:
        raise InputError("trainer.devices=0: a training needs at least one device; type trainer.devices=1")
    if int(devices) > there:
        raise InputError(f"trainer.devices={devices}: there are {there} {what} here; type trainer.devices={there}")
    return int(devices)


def check_task(n: int, environment: Mapping[str, str] = os.environ) -> None:
    """Stop if Slurm has started the command several times: a training starts its own processes.

    Args:
        n: Devices of the training.
        environment: Environment of this process.

    Raises:
        InputError: Slurm has started it several times.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if n > 1 and tasks not in ("", "1") and "LOCAL_RANK" not in environment:
        raise InputError(
            f"srun started this command {tasks} times; type --ntasks=1 --gres=gpu:{n} instead: a training on several "
            "devices starts its own processes"
        )


def strategy(n: int, configured: str, unused: bool) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that set the strategy.

    Args:
        n: Devices of the training.
        configured: `trainer.strategy`.
        unused: Whether parameters have no gradient in some epochs.

    Raises:
        InputError: With several devices, the strategy is not distributed data parallel.
    """
    if n == 1:
        return {"strategy": "auto" if configured.startswith("ddp") else configured}
    if configured not in _STRATEGIES:
        raise InputError(f"trainer.strategy={configured}: each device must hold the whole network; type auto")
    unused = unused or configured.endswith("_true")
    return {"strategy": DDPStrategy(find_unused_parameters=unused), "plugins": [LightningEnvironment()]}


def scaled(lr: float, n: int, how: str) -> float:
    """Return the learning rate of a training on n devices.

    Args:
        lr: As configured.
        n: Devices.
        how: `none`, `linear` (Goyal et al. 2017), or `sqrt` (Krizhevsky 2014).
    """
    return lr * {"none": 1.0, "linear": float(n), "sqrt": math.sqrt(n)}[how]


def words(n: int, batch_size: int, how: str, lr: float, joined: int) -> str:
    """Return one line that says what several devices change.

    Args:
        n: Devices.
        batch_size: Knees per device and step, over accumulated batches.
        how: `optimizer.scale_lr`.
        lr: As configured.
        joined: Number of batch norms that compute over all devices.
    """
    rate = f"{lr:g}" if how == "none" else f"{lr:g} scaled ({how}) to {scaled(lr, n, how):g}"
    norms = f"{joined} batch norms over all devices" if joined else "batch norms per device"
    return f"{n} devices: {n} x {batch_size} = {n * batch_size} knees per step, learning rate {rate}, {norms}"
