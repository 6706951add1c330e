"""Rows of a memory-mapped file, of which the system reads no more than is asked for."""

from __future__ import annotations

import mmap

import numpy as np


def fetch(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows as a copy.

    By default the kernel takes each access to a mapped file for the start of a sequential read and reads ahead, 128 KB
    to several MB. If the file does not fit into memory, those pages are dropped again before anything uses them. So
    this asks for exactly the pages of these rows first, all together.

    Args:
        images: N x ..., memory-mapped or not.
        rows: Their numbers.
    """
    mapped = images.base
    if isinstance(images, np.memmap) and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        first = images.offset % mmap.ALLOCATIONGRANULARITY  # of the first row in what is mapped
        for row in rows.tolist():
            start = first + row * images.strides[0]
            page = start - start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, start + images.strides[0] - page)
    return np.asarray(images[rows])
