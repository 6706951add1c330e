"""From a gray image to the square that a network takes."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from koa_lightning.errors import InputError


def fit(image: np.ndarray, size: int, how: str) -> np.ndarray:
    """Resize to a square with PIL's bilinear filter, whose support grows for reduction (antialiased).

    Lanczos and bicubic filters would overshoot at the edge of bone.

    Args:
        image: uint8, H x W.
        size: Side of the square in pixels.
        how: "letterbox" keeps the aspect, centres, and pads with black; "stretch" fills the square.

    Returns:
        uint8, size x size; the same array if it already has that size.

    Raises:
        InputError: `how` is unknown or `size` is below 1.
    """
    if how not in _FITS:
        raise InputError(f"fit: {how!r} is not a way to fit an image; choose one of {', '.join(sorted(_FITS))}")
    if size < 1:
        raise InputError(f"fit: size {size} is below 1 pixel; give a side such as 224")
    return image if image.shape == (size, size) else _FITS[how](image, size)


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def _letterbox(image: np.ndarray, size: int) -> np.ndarray:
    longest = max(image.shape)
    height, width = (max(1, round(side * size / longest)) for side in image.shape)
    top, left = (size - height) // 2, (size - width) // 2
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = _resize(image, height, width)
    return square


_FITS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "letterbox": _letterbox,
    "stretch": lambda image, size: _resize(image, size, size),
}


def framed(image: np.ndarray, shape: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return a letterboxed image without its black padding.

    Args:
        image: uint8 S x S.
        shape: Rows and columns before it was fitted.
    """
    size, longest = len(image), max(1, int(max(shape)))
    height, width = (max(1, round(int(side) * size / longest)) if side else size for side in shape)
    top, left = (size - height) // 2, (size - width) // 2
    return image[top : top + height, left : left + width]
