"""The only LightningModule: network, loss, augmentation and metrics in one training loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from koa_lightning.checkpoint.record import RECORD, CheckpointRecord
from koa_lightning.checkpoint.writing import to_plain
from koa_lightning.config.compose import nearest
from koa_lightning.errors import DivergedError, InputError
from koa_lightning.losses.base import GradeLoss
from koa_lightning.metrics.grade_metrics import GradeMetrics
from koa_lightning.models import outputs as links
from koa_lightning.models.inference import grade_logits
from koa_lightning.models.net import KneeNet
from koa_lightning.training.mixup import Mix
from koa_lightning.training.resizing import Resize
from koa_lightning.training.stages import Stages, groups, n_resting
from koa_lightning.training.teacher import Teacher

Batch = dict[str, Tensor]


class KneeGrader(L.LightningModule):
    """Trains a `KneeNet`.

    Everything random in an epoch follows from seed, epoch and batch, so a run resumed at an epoch's end gets
    the same numbers as an uninterrupted one.

    Args:
        net: The network; its link must match that of the loss.
        loss: Loss of logits and grade; its `sums` give the mean over the validation split.
        augment: Turns images, uint8 or float in [0, 1], into float images in [0, 1]; draws from torch's own generator.
        optimizer: Makes an optimizer for parameter groups.
        scheduler: Makes Lightning's scheduler entry, see `koa_lightning.training.schedules`.
        lr, head_lr: Learning rates of backbone and head (None: the same).
        weight_decay: Not applied to biases and normalisation layers.
        head_only_epochs: Number of first epochs with a frozen backbone.
        unfreeze_every, frozen_stages: See `koa_lightning.training.stages.n_resting`.
        layer_decay: See `koa_lightning.training.stages.groups`.
        resize: Resizes a batch to the size of the current epoch; None keeps its size.
        mix: Mixes two knees into one picture; None turns it off.
        teacher: Adds soft labels beside the grade, prepared; None uses only the grade.
        total_steps: Optimizer steps of the whole run.
        monitor, mode: The metric that chooses the best epoch, and whether `max` or `min` is better.
        seed: Seed of the run.
        record: The record for every checkpoint.

    Raises:
        InputError: There is no such metric as `monitor`.
    """

    def __init__(
        self,
        net: KneeNet,
        loss: GradeLoss,
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
        record: CheckpointRecord,
        unfreeze_every: int = 0,
        frozen_stages: int = 0,
        layer_decay: float = 1.0,
        resize: Resize | None = None,
        mix: Mix | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        check_metric(monitor)
        self.stages = Stages(net)
        if not self.stages.known and (unfreeze_every or frozen_stages or layer_decay != 1):
            raise InputError(f"model.name={net.spec.name}: timm does not know its stages; omit "
                             "optimizer.unfreeze_every, frozen_stages and layer_decay")  # fmt: skip
        if frozen_stages > self.stages.n:
            raise InputError(f"optimizer.frozen_stages={frozen_stages}: {net.spec.name} has {self.stages.n} stages "
                             f"before its head; give 0 to {self.stages.n}")  # fmt: skip
        self.net, self.loss, self.augment = net, loss, augment
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.lr, self.head_lr, self.weight_decay = lr, head_lr or lr, weight_decay
        self.head_only_epochs, self.total_steps, self.layer_decay = head_only_epochs, total_steps, layer_decay
        self.unfreeze_every, self.frozen_stages = unfreeze_every, frozen_stages
        self.resize, self.mix, self.teacher = resize or Resize(), mix or Mix(), teacher or Teacher()
        self.fast: tuple[
            Callable[[Tensor], Tensor], ...
        ] = ()  # the compiled network, in a tuple: its weights are net's
        self.monitor, self.mode, self.seed, self.record = monitor, mode, seed, record
        self.train_metrics = GradeMetrics(checked=False)
        self.val_metrics = GradeMetrics()
        self.val_outputs: list[tuple[Tensor, Tensor]] = []
        self.val_sums = torch.zeros(2, dtype=torch.float64)  # of the loss and of its weight
        self.loss_sum = torch.zeros(())

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of images uint8 N x 1 x H x W."""
        return grade_logits(self.net, image)

    def on_train_epoch_start(self) -> None:
        """Freeze the stages that do not train in this epoch."""
        self.stages.rest(
            n_resting(
                self.stages.n,
                self.current_epoch,
                head_only_epochs=self.head_only_epochs,
                unfreeze_every=self.unfreeze_every,
                frozen=self.frozen_stages,
            )
        )
        self.loss_sum = torch.zeros((), device=self.device)
        self.train_metrics.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Resize, augment, mix, grade, and return the loss; a mixed picture counts as its larger knee."""
        # Seed each batch: draws between batches, such as those of a loader's iterator, differ in a resumed run.
        torch.manual_seed(self._seed_of(self.current_epoch) + batch_idx)
        progress = self.current_epoch / (self.trainer.max_epochs or 1)
        mixed = self.mix(self.augment(self.resize(batch["image"], progress)), progress)
        net = self.fast[0] if self.fast else self.net
        logits = net(self.net.normalise(mixed.image))
        loss = mixed.loss(self.loss, logits, batch["grade"])
        loss = self.teacher(loss, logits, batch["index"], mixed, self.net.spec.link)
        self.loss_sum += loss.detach()
        self.train_metrics.update(links.probabilities(logits.detach(), self.net.spec.link), batch["grade"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(logits), sync_dist=True)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """After the last batch, log the epoch's training metrics; stop if the loss is not finite.

        At the epoch's end, callbacks would see the metrics an epoch late, and validation would already have failed on
        weights that are not finite.
        """
        if not self.trainer.is_last_batch:
            return
        if not torch.isfinite(self.loss_sum):
            raise DivergedError(
                f"the training loss became {float(self.loss_sum)} in epoch {self.current_epoch}; "
                "lower optimizer.lr, or set trainer.precision=fp32"
            )
        metrics = {f"train/{name}": value for name, value in self.train_metrics.compute().items()}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Step a plateau schedule before the checkpoint is written, so that a resumed run includes the step."""
        every = self.trainer.check_val_every_n_epoch or 1
        if (self.current_epoch + 1) % every:
            return  # not validated: the metric is that of an earlier epoch
        for entry in self.trainer.lr_scheduler_configs:
            if entry.reduce_on_plateau:
                entry.scheduler.step(self.trainer.callback_metrics[self.monitor])  # type: ignore[arg-type]

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's outputs."""
        self.val_outputs.clear()
        self.val_sums.zero_()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Grade in fp32 exactly as `eval` does."""
        logits = grade_logits(self.net, batch["image"])
        if not torch.isfinite(logits).all():
            raise DivergedError(
                "the training diverged: the network's outputs are not finite; "
                "lower optimizer.lr, or set trainer.precision=fp32"
            )
        own = self._once(len(logits))
        logits, grade, index = logits[own], batch["grade"][own], batch["index"][own]
        if not len(logits):
            return
        self.val_metrics.update(links.probabilities(logits, self.net.spec.link), grade)
        self.val_outputs.append((index.cpu(), logits.cpu()))
        self.val_sums += torch.stack(self.loss.sums(logits, grade)).cpu()

    def _once(self, n: int) -> slice:
        """Return which of the next n knees count: some come twice, so that all processes get the same number."""
        processes = self.trainer.world_size
        first = sum(len(index) for index, _ in self.val_outputs)
        whole = len(self.trainer.val_dataloaders.dataset) if processes > 1 else first + n  # type: ignore[union-attr]
        own = -(-(whole - self.global_rank) // processes) if processes > 1 else whole
        return slice(0, max(0, own - first))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics, the monitored one also in the progress bar."""
        for name, value in self.val_metrics.compute().items():
            self.log(f"val/{name}", value, prog_bar=f"val/{name}" == self.monitor)
        loss, weight = self.trainer.strategy.reduce(self.val_sums.to(self.device, torch.float32), reduce_op="sum")
        self.log("val/loss", loss / weight, prog_bar=self.monitor == "val/loss")
        self.val_metrics.reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the record, from which everything can be rebuilt."""
        checkpoint[RECORD] = to_plain(self.record)

    def configure_optimizers(self) -> Any:
        """Return optimizer and schedule; see Lightning."""
        optimizer = self.optimizer_factory(self._groups())
        schedule = self.scheduler_factory(optimizer, total_steps=self.total_steps, monitor=self.monitor, mode=self.mode)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip all gradients; Lightning itself refuses to do so with a fused optimizer."""
        if gradient_clip_val:
            by_value = gradient_clip_algorithm == "value"
            clip = torch.nn.utils.clip_grad_value_ if by_value else torch.nn.utils.clip_grad_norm_
            clip(self.parameters(), gradient_clip_val)

    def _groups(self) -> list[dict[str, Any]]:
        rates = {"lr": self.lr, "head_lr": self.head_lr, "layer_decay": self.layer_decay}
        return groups(self.stages, weight_decay=self.weight_decay, **rates)

    def _seed_of(self, epoch: int) -> int:
        return ((self.seed * 10_007 + epoch) * 1_000_003 + self.global_rank * 7_919) % 2**63


def check_metric(name: str, key: str = "monitor") -> None:
    """Check that a training reports a metric after each epoch.

    Args:
        name: E.g. `val/quadratic_kappa`.
        key: The setting that names it, for the message.

    Raises:
        InputError: No training reports it.
    """
    metrics = GradeMetrics()
    metrics.update(torch.eye(links.N_GRADES), torch.arange(links.N_GRADES))
    names = [f"{split}/{known}" for split in ("val", "train") for known in ("loss", *metrics.compute())]
    if name not in names:
        raise InputError(f"{key}={name}: no such metric{nearest(name, names)} (there are {', '.join(names)})")
