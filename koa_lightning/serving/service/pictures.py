"""Pictures of a response, as PNG in base64."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from PIL import Image

from koa_lightning.reporting.heat_maps import HEAT, STRONGEST

LONGEST_HEAT = 1024  # pixels; a map itself is far coarser
LONGEST_PICTURE = 2048


def heat_layer(heat: np.ndarray) -> str:
    """Return a heat map as colours whose opacity follows the heat: on top of the radiograph it is the usual overlay.

    Args:
        heat: float32 H x W in [0, 1]; reduced to at most `LONGEST_HEAT` pixels per side.
    """
    small = _reduced(heat, LONGEST_HEAT)
    layer = np.dstack([255 * HEAT(small)[..., :3], 255 * STRONGEST * small]).round().astype(np.uint8)
    return png(layer)


def gray_picture(image: np.ndarray) -> str:
    """Return the gray values of a radiograph, reduced to at most `LONGEST_PICTURE` pixels per side.

    Args:
        image: uint8 H x W.
    """
    return png(_reduced(image, LONGEST_PICTURE))


def png(pixels: np.ndarray) -> str:
    """Return pixels as a PNG file in base64.

    Args:
        pixels: uint8, H x W or H x W x 4.
    """
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=3)
    return base64.b64encode(file.getvalue()).decode()


def _reduced(pixels: np.ndarray, longest: int) -> np.ndarray:
    height, width = pixels.shape
    share = longest / max(height, width)
    if share >= 1:
        return pixels
    size = max(1, round(width * share)), max(1, round(height * share))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
