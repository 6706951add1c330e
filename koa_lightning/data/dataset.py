"""Part of the cache as batches, fetched a whole batch at once, and the order in which an epoch draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from koa_lightning.data import manifest as mf
from koa_lightning.data.mapped import fetch

Batch = dict[str, torch.Tensor]


class KneeDataset(Dataset[Batch]):
    """Part of the cache.

    Args:
        images: uint8 N x H x W, memory-mapped.
        rows: The rows of `images` that belong to this split.
        grades: Grade of each of these rows, -1 where unknown.
        shapes: Height and width of each row before it was fitted, int N x 2; None: they were square.
    """

    def __init__(
        self, images: np.ndarray, rows: np.ndarray, grades: np.ndarray, shapes: np.ndarray | None = None
    ) -> None:
        self.images, self.rows, self.grades = images, rows, grades
        self.shapes = np.full((len(rows), 2), images.shape[1]) if shapes is None else shapes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return image uint8 N x 1 x H x W, grade int64 N, index int64 N (row within the split)."""
        index = np.asarray(indices, dtype=np.int64)
        image = torch.from_numpy(fetch(self.images, self.rows[index])).unsqueeze(1)
        grade = torch.from_numpy(self.grades[index].astype(np.int64))
        return {"image": image, "grade": grade, "index": torch.from_numpy(index)}


class EpochSampler(DistributedSampler[int]):
    """Derives the order of an epoch from seed and epoch alone, so that a resumed run sees the same batches.

    Each of n processes takes every n-th knee of one order. Their common step thus has the knees that one process with
    all their batches together would have. Knees beyond a multiple of n are omitted in that epoch.

    Args:
        grades: Grade of each row.
        seed: Of the run.
        balanced: Draw with replacement, each grade equally often; otherwise a permutation.
        shares: Number of processes.
        share: Index of this process, from 0.
    """

    def __init__(self, grades: np.ndarray, seed: int, balanced: bool, shares: int = 1, share: int = 0) -> None:
        super().__init__(grades, shares, share, drop_last=True)  # type: ignore[arg-type]  # Lightning keeps one as it is
        self.n, self.seed, self.epoch = len(grades), seed, 0
        counts = np.maximum(np.bincount(grades, minlength=len(mf.GRADES)), 1) if balanced else None
        self.weights = None if counts is None else torch.from_numpy(1.0 / counts[grades])

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.n, generator=generator)
        else:
            order = torch.multinomial(self.weights, self.n, replacement=True, generator=generator)
        order = order[: len(self) * self.num_replicas][self.rank :: self.num_replicas]
        for chunk in order.split(4096):  # a list of a million Python numbers would cost more than drawing them
            yield from chunk.tolist()
