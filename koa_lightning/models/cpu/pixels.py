"""Images in channels_last as arrays of pixels x channels, which the compiled loops read and write."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

# Values in an image; below this, loading the loops would cost more than they save.
LARGE = 1 << 19


def suited(image: Tensor) -> bool:
    """Return whether the loops pay off: for a large N x C x H x W image in fp32 or bf16, on a CPU, in channels_last.

    Linux only: elsewhere torch and numba would each start threads of their own.
    """
    return (
        sys.platform == "linux"
        and image.device.type == "cpu"
        and image.dtype in (torch.float32, torch.bfloat16)
        and image.numel() >= LARGE
        and image.is_contiguous(memory_format=torch.channels_last)
    )


def loops() -> ModuleType:
    """Return the compiled loops, which run on as many threads as torch does; they are loaded when first needed."""
    import numba

    from koa_lightning.models.cpu import kernels

    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, kernels.MOST_THREADS))
    if torch.get_num_threads() != threads:  # at its start, numba gives all cores to the thread library they share
        torch.set_num_threads(threads)
    return kernels


def depthwise_loops() -> ModuleType:
    """Return the compiled gradients of depthwise convolutions; loaded, or compiled for seconds, when first needed."""
    loops()

    from koa_lightning.models.cpu import depthwise_loops

    return depthwise_loops


def of(image: Tensor) -> np.ndarray:
    """Return an image in channels_last as N x H x W x C, sharing its memory; bf16 as its bits, in uint16."""
    image = image.detach().permute(0, 2, 3, 1)
    return image.view(torch.uint16).numpy() if image.dtype == torch.bfloat16 else image.numpy()


def rows(image: Tensor) -> np.ndarray:
    """Return an image in channels_last as pixels x channels, sharing its memory."""
    return of(image).reshape(-1, image.shape[1])


def lines(image: Tensor) -> np.ndarray:
    """Return an image in channels_last as N x H x (W * C), sharing its memory."""
    return of(image).reshape(*of(image).shape[:2], -1)
