"""The only LightningModule: network, loss, augmentation and metrics in one training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from koa_lightning import links
from koa_lightning.errors import InputError
from koa_lightning.inference import grade_logits
from koa_lightning.metrics.grade_metrics import GradeMetrics
from koa_lightning.models.net import KneeNet

Batch = dict[str, Tensor]


class KneeGrader(L.LightningModule):
    """Trains a `KneeNet`.

    Everything random in an epoch follows from seed, epoch and batch, so a run resumed at an epoch's end goes on with
    the numbers that it would have had.

    Args:
        net: Network; its link must be the loss's.
        loss: Of logits and grade.
        augment: uint8 images and a generator to float images in [0, 1].
        optimizer: Makes an optimizer of parameter groups.
        scheduler: Makes Lightning's scheduler entry, see `koa_lightning.schedules`.
        lr, head_lr: Learning rates of backbone and head (None: the same).
        weight_decay: Not applied to biases and normalisation layers.
        head_only_epochs: First epochs in which the backbone rests.
        total_steps: Optimizer steps of the whole run.
        monitor, mode: The metric that decides, and whether more is better.
        seed: Of the run.
        record: Plain values that every checkpoint carries under the key `koa_lightning`.
    """

    def __init__(
        self,
        net: KneeNet,
        loss: nn.Module,
        augment: nn.Module,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., dict[str, Any]],
        lr: float,
        head_lr: float | None,
        weight_decay: float,
        head_only_epochs: int,
        total_steps: int,
        monitor: str,
        mode: str,
        seed: int,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.net, self.loss, self.augment = net, loss, augment
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.lr, self.head_lr, self.weight_decay = lr, head_lr or lr, weight_decay
        self.head_only_epochs, self.total_steps = head_only_epochs, total_steps
        self.monitor, self.mode, self.seed, self.record = monitor, mode, seed, record
        self.train_metrics = GradeMetrics(light=True)
        self.val_metrics = GradeMetrics()
        self.val_outputs: list[tuple[Tensor, Tensor]] = []

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of images uint8 N x 1 x H x W."""
        return grade_logits(self.net, image)

    def on_train_epoch_start(self) -> None:
        """Seed the epoch and let the backbone rest where it should."""
        torch.manual_seed(self._seed_of(self.current_epoch))
        rests = self.current_epoch < self.head_only_epochs
        head = {id(parameter) for parameter in self.net.head_parameters()}
        for parameter in self.net.parameters():
            parameter.requires_grad_(not rests or id(parameter) in head)
        self.net.train(not rests)  # a resting backbone keeps its batch statistics too

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Augment, grade, and return the loss."""
        generator = torch.Generator().manual_seed(self._seed_of(self.current_epoch) + 1 + batch_idx)
        image = self.net.normalise(self.augment(batch["image"], generator))
        logits = self.net(image.to(memory_format=torch.channels_last))
        loss = self.loss(logits, batch["grade"])
        self.train_metrics.update(links.probabilities(logits.detach(), self.net.spec.link), batch["grade"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(image))
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics; stop when the loss has left the numbers."""
        self.log_dict({f"train/{name}": value for name, value in self.train_metrics.compute().items()})
        self.train_metrics.reset()
        loss = self.trainer.callback_metrics["train/loss"]
        if not torch.isfinite(loss):
            raise InputError(
                f"the training loss became {float(loss)} in epoch {self.current_epoch}; "
                "lower optimizer.lr, or set trainer.precision=fp32"
            )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Grade in fp32 exactly as `eval` does."""
        logits = grade_logits(self.net, batch["image"])
        self.val_metrics.update(links.probabilities(logits, self.net.spec.link), batch["grade"])
        self.val_outputs.append((batch["index"].cpu(), logits.cpu()))
        self.log("val/loss", self.loss(logits, batch["grade"]), batch_size=len(logits), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's outputs."""
        self.val_outputs.clear()

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics."""
        self.log_dict({f"val/{name}": value for name, value in self.val_metrics.compute().items()})
        if self.monitor in self.trainer.callback_metrics:
            self.log(
                self.monitor.split("/")[-1], self.trainer.callback_metrics[self.monitor], prog_bar=True, logger=False
            )
        self.val_metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to build everything again."""
        checkpoint["koa_lightning"] = self.record

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule; see Lightning."""
        optimizer = self.optimizer_factory(self._groups())
        schedule = self.scheduler_factory(optimizer, total_steps=self.total_steps, monitor=self.monitor, mode=self.mode)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _groups(self) -> list[dict[str, Any]]:
        head = {id(parameter) for parameter in self.net.head_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.net.parameters():
            groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.head_lr if in_head else self.lr,
                "weight_decay": self.weight_decay if decays else 0.0,
            }
            for (in_head, decays), parameters in groups.items()
        ]

    def _seed_of(self, epoch: int) -> int:
        return ((self.seed * 10_007 + epoch) * 1_000_003 + self.global_rank * 7_919) % 2**63
