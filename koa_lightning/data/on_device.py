"""The knees of a split as one uint8 tensor on the training device: batches are picked there, not copied there."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import lightning as L
import numpy as np
import torch
from torch import Tensor

from koa_lightning.data.dataset import Batch, KneeDataset

_SHARE = 0.5  # of the free memory for pictures; the rest is for the network
_PIECE = 1024  # knees copied at a time


class WithoutImages(KneeDataset):
    """A split whose batches identify their knees and leave the pictures to their holder."""

    def __init__(self, split: KneeDataset) -> None:
        super().__init__(split.images, split.rows, split.grades, split.shapes)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return grade int64 N, index int64 N (row within the split)."""
        index = np.asarray(indices, dtype=np.int64)
        grade = torch.from_numpy(self.grades[index].astype(np.int64))
        return {"grade": grade, "index": torch.from_numpy(index)}


class OnDevice(L.LightningDataModule):
    """A data module whose training batches may be picked from pictures on the device.

    Attributes:
        datasets: Each split, prepared.
        on_device: See `held`.
        quiet: Print nothing.
    """

    on_device: str
    quiet: bool

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[str, KneeDataset] = {}
        self._held: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        """Copy the knees to the training device if configured."""
        if stage == "fit" and self.trainer is not None:
            self._held = held(self.datasets, self.trainer.strategy.root_device, self.on_device, self.quiet)

    def teardown(self, stage: str) -> None:
        """Free the device's memory."""
        self._held = {}

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Add the pictures held on the device."""
        if not self._held:
            return batch
        assert self.trainer is not None
        return picked(self._held["train" if self.trainer.training else "val"], batch)

    def loaded(self, split: str) -> KneeDataset:
        """Return the data set from which the trainer's batches of a split come."""
        return WithoutImages(self.datasets[split]) if split in self._held else self.datasets[split]


def held(splits: dict[str, KneeDataset], device: torch.device, wanted: str, quiet: bool) -> dict[str, Tensor]:
    """Return the pictures of each split on a device, uint8 N x 1 x H x W; empty if they are not held there.

    Args:
        splits: By name.
        device: The training device.
        wanted: `auto` (on a GPU, if they take at most half of its free memory), `always` or `never`.
        quiet: Print nothing.
    """
    if wanted == "never" or (wanted == "auto" and device.type != "cuda"):
        return {}
    size = sum(len(split) * int(np.prod(split.images.shape[1:])) for split in splits.values())
    if wanted == "auto":
        free = torch.cuda.mem_get_info(device)[0]
        if size > _SHARE * free:
            print(
                f"data.on_device=auto: the knees take {size / 1e9:.1f} GB but only {free / 1e9:.1f} GB are free; "
                f"batches are copied to {device} one by one",
                file=sys.stderr,
            )
            return {}
    found = {name: _copied(split, device) for name, split in splits.items()}
    if not quiet:
        n = sum(map(len, splits.values()))
        print(f"data.on_device={wanted}: {n} knees lie on {device}, {size / 1e9:.2f} GB", flush=True)
    return found


def picked(images: Tensor, batch: Batch) -> Batch:
    """Return a batch of `WithoutImages` with its pictures, uint8 N x 1 x H x W, on their common device."""
    return {"image": images.index_select(0, batch["index"]), **batch}


def _copied(split: KneeDataset, device: torch.device) -> Tensor:
    height, width = split.images.shape[1:]
    images = torch.empty(len(split), 1, height, width, dtype=torch.uint8, device=device)
    for start in range(0, len(split), _PIECE):
        rows = split.rows[start : start + _PIECE]
        images[start : start + len(rows), 0].copy_(torch.from_numpy(split.images[rows]))
    return images
