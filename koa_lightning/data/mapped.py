"""Arrays in memory-mapped files: reading only the requested rows, and scratch space."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from koa_lightning.errors import naming


def fetch(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows as a copy.

    By default the kernel treats each access to a mapped file as the start of a sequential read and reads ahead, 128 KB
    to several MB. If the file does not fit into memory, those pages are dropped before they are used. So this function
    first requests exactly the pages of these rows, all together.

    Args:
        images: N x ..., memory-mapped or not.
        rows: Row numbers.
    """
    mapped = images.base
    if isinstance(images, np.memmap) and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        first = images.offset % mmap.ALLOCATIONGRANULARITY  # of the first row in the mapping
        for row in rows.tolist():
            start = first + row * images.strides[0]
            page = start - start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, start + images.strides[0] - page)
    return np.asarray(images[rows])


def scratch(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Return a new array in a temporary file, whose pages the system may write out when memory is short.

    The file has no name and vanishes with the array.

    Args:
        shape: Of the array; an empty array lies in memory.
        dtype: Of its elements.

    Raises:
        OSError: The disk of temporary files has no space for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not size:
        return np.empty(shape, dtype)
    folder = Path(tempfile.gettempdir())
    with naming(folder), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):  # else a disk that fills up later kills the process (SIGBUS)
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(file, dtype, mode="w+", shape=shape)
