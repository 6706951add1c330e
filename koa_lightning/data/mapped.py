"""Rows of a memory-mapped file, of which the system reads no more than is asked for."""

from __future__ import annotations

import mmap

import numpy as np


def fetch(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return some rows as a copy.

    Without a word, the system takes any access to a mapped file as the begin of a long read, and reads as much around
    it as the disk is set to (128 KB to 8 MB and more). Where the file does not fit into the memory, that is read for
    each image and dropped again before its time comes. The pages of just these rows are asked for first, at once.

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
