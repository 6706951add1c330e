"""The two training loops that are compared: Lightning's, with a clock in it, and a bare one in plain PyTorch.

Import it after `koa_lightning.training.allocator.tune_allocator`, if you call that: this module imports torch.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import psutil
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.process import Stopwatch
from koa_lightning.data.build import data_module
from koa_lightning.models.plan import Plan
from koa_lightning.training import build as assemble
from koa_lightning.training.module import KneeGrader


class StepClock(Callback):
    """Times turns of training steps, and writes the times to a file when the training ends.

    The time between the ends of two batches covers the data, the step, every callback and every logger.

    Args:
        steps: In a turn.
        file: JSON, a list of seconds.
    """

    def __init__(self, steps: int, file: str) -> None:
        self.watch, self.file = Stopwatch(steps), Path(file)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Count the step."""
        self.watch.step_done()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the times."""
        self.file.write_text(json.dumps(self.watch.turns))


class MemoryAfter(Callback):
    """Records the memory of this process after some training steps, and ends the run.

    Args:
        steps: That many.
        file: JSON: megabytes by name. `uss` is psutil's unique set size, `own` is that less the mapped pages of files
            that end in .npy, `peak` is the largest resident size so far.
    """

    def __init__(self, steps: int, file: str) -> None:
        self.steps, self.file = steps, Path(file)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure after the last of these steps."""
        if batch_idx + 1 < self.steps:
            return
        process = psutil.Process()
        uss = process.memory_full_info().uss
        mapped = sum(m.private_clean + m.private_dirty for m in process.memory_maps() if m.path.endswith(".npy"))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        megabytes = {"own": uss - mapped, "uss": uss, "peak": peak}
        self.file.write_text(json.dumps({name: value / 2**20 for name, value in megabytes.items()}))
        raise CutOff


class CutOff(Exception):  # noqa: N818  # not an error: the measurement is complete
    """Ends a training from within."""


@dataclass(frozen=True)
class Run:
    """The result of the bare loop: seconds of each turn but the first, loss of each step, and the plan it ran with."""

    turns: list[float]
    losses: list[float]
    plan: Plan


def build(cfg: DictConfig) -> tuple[KneeGrader, Plan, Iterable[dict[str, Tensor]]]:
    """Return the module, its plan and its training batches, as `train(cfg)` would build them."""
    L.seed_everything(cfg.seed, verbose=False)
    data = data_module(cfg.data, cfg.seed, cfg.quiet).prepare(("train", "val"))
    module, plan = assemble.grader(cfg, data, None)
    return module, plan, data.train_dataloader()


def bare(cfg: DictConfig, steps: int, steps_a_turn: int) -> Run:
    """Train in a loop that does nothing else: no callback, no average, no metric, no log.

    Model, batches, augmentation, loss, precision, clipping, optimizer and schedule are those of the config.
    """
    module, plan, batches = build(cfg)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    net, parameters = module.net.train(), list(module.net.parameters())
    torch.manual_seed(cfg.seed)
    generator = torch.Generator().manual_seed(cfg.seed)
    watch, losses = Stopwatch(steps_a_turn), []
    for batch in islice(batches, steps):
        image = net.normalise(module.augment(batch["image"], generator)).to(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.precision != "fp32"):
            loss = module.loss(net(image), batch["grade"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, cfg.trainer.gradient_clip_val)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        watch.step_done()
    return Run(watch.turns, losses, plan)
