"""Shared by all readers of pixels: size limits, the gray range, and one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import DTypeLike

from koa_lightning.errors import InputError

MAX_PIXELS = 100_000_000  # ten times a large radiograph; decoded it is 100 MB in 8 bits

MIN_SIDE = 8


def stretch(values: np.ndarray, name: str, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Map lowest..highest value linearly to the whole range, rounded; constant values become zeros.

    Args:
        values: Any shape, integer or float.
        name: The file's name in error messages.
        dtype: uint8 or uint16.

    Returns:
        `dtype`, 0..255 or 0..65535, the shape of `values`.

    Raises:
        InputError: A value is NaN or infinite.
    """
    low, high = float(values.min()), float(values.max())  # NaN if any value is NaN
    if not np.isfinite([low, high]).all():
        raise InputError(f"{name}: has NaN or infinite pixels; replace them and save the image again")
    if low == high:
        return np.zeros(values.shape, dtype)
    scaled = np.subtract(values, low, dtype=np.float64)
    scaled *= np.iinfo(dtype).max / (high - low)
    return np.rint(scaled, out=scaled).astype(dtype)


def check_size(height: int, width: int, name: str) -> None:
    """Refuse an image by the size in its header, before it is decoded.

    Args:
        height: Rows in pixels.
        width: Columns in pixels.
        name: The file's name in error messages.

    Raises:
        InputError: It has more than `MAX_PIXELS` pixels or a side under `MIN_SIDE`.
    """
    size = f"{width} x {height} pixels"
    if height * width > MAX_PIXELS:
        raise InputError(f"{name}: {size} are more than {MAX_PIXELS}; crop the joint or reduce the image first")
    if min(height, width) < MIN_SIDE:
        raise InputError(f"{name}: {size}, a side is under {MIN_SIDE}; give the whole radiograph")


@contextmanager
def input_errors(name: str, what: str) -> Iterator[None]:
    """Turn any exception of a decoder into a one-line error.

    Decoders raise anything from SyntaxError to struct.error on damaged files, so a list of types would not suffice.

    Args:
        name: The file's name in error messages.
        what: The fault to report if the block raises.

    Raises:
        InputError: The block raised; an InputError and a MemoryError of the block pass unchanged.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"{name}: {what} ({one_line(error)}); copy or export it again") from error


def one_line(error: Exception) -> str:
    """Return the message of an exception in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
