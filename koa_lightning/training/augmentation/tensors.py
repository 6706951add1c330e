"""Small things that all of augmentation needs: parameters to a device, rows of them, gray values as float."""

from __future__ import annotations

import torch
from kornia.augmentation import AugmentationBase2D as Operation
from torch import Tensor

__all__ = ["Operation", "Params", "drawn_rows", "moved", "of_rows", "unit"]

Params = dict[str, Tensor]  # what an operation drew for one batch, on the CPU


def moved(tensor: Tensor, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return parameters on the device of a batch, without waiting for what a GPU still has to do.

    Args:
        tensor: On the CPU, not pinned; or already there.
        like: The batch.
        dtype: None: the batch's.
    """
    return tensor.to(like.device, dtype or like.dtype, non_blocking=like.device.type == "cuda")


def unit(image: Tensor) -> Tensor:
    """Return a copy as float32 in [0, 1] of a batch, uint8 or float in [0, 1]."""
    copy = image.to(torch.float32, copy=True)
    return copy.div_(255) if image.dtype == torch.uint8 else copy  # 3 times as fast as uint8 / 255 on a CPU


def drawn_rows(params: Params) -> list[int]:
    """Return which rows of the batch an operation is to change."""
    return torch.atleast_1d(params["batch_prob"] > 0.5).nonzero().flatten().tolist()


def of_rows(params: Params, rows: list[int]) -> Params:
    """Return the parameters of some rows of a batch, all of them drawn."""
    n, index = len(params["batch_prob"]), torch.tensor(rows, dtype=torch.long)
    # what is one for the batch, such as a field of noise by `same_on_batch`, has one row; the shape has none
    mine = {
        name: value.index_select(0, index) if value.ndim and len(value) == n else value
        for name, value in params.items()
        if name != "forward_input_shape"
    }
    shape = params["forward_input_shape"].clone()
    shape[0] = len(rows)
    return {**mine, "forward_input_shape": shape}
