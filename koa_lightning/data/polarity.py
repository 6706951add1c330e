"""Inverted radiographs: bone dark instead of bright.

About one in a hundred knees of Chen 2018 is inverted, and the share differs by grade, so a network can learn it as a
shortcut. The check is coarse: it correlates an image of 14 x 14 pixels with the mean phantom knee. On the real data
a knee gives more than 0.39, an inverted one less than -0.5; nothing is learned from the data itself.

Pictures are used without padding: black beside an inverted knee looks like the air beside an upright one, and
outweighs it. A picture that is higher than wide may show more of the shafts, or less beside the bone. So it is
compared with the whole mean knee and with its middle columns, and the clearer result counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np

from koa_lightning.data.phantom.typical import typical_phantoms

SIZE = 14  # pixels: keeps the dark joint space and the dark air beside the bone, not individual detail


def inverted(images: Iterable[np.ndarray]) -> np.ndarray:
    """Tell which images, each uint8 H x W, show bone dark; bool N."""
    return scores(images) < 0


def scores(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the correlation of each image with the mean phantom, float N; inverted ones are negative.

    A blank image gives 0.

    Args:
        images: Each uint8 H x W, without padding; shapes may differ.
    """
    return np.array([_score(image) for image in images], dtype=np.float64)


def _score(image: np.ndarray) -> float:
    height, width = image.shape
    whole = float(_coarse(image) @ _template())
    cut = min(round(SIZE * (1 - width / height) / 2), SIZE // 2 - 1)  # columns missing on each side of a narrow picture
    if cut < 1:
        return whole
    middle = _normed(_template().reshape(SIZE, SIZE)[:, cut:-cut])
    return max(whole, float(_coarse(image, SIZE - 2 * cut) @ middle), key=abs)


def _coarse(image: np.ndarray, columns: int = SIZE) -> np.ndarray:
    return _normed(cv2.resize(np.asarray(image, dtype=np.float32), (columns, SIZE), interpolation=cv2.INTER_AREA))


def _normed(image: np.ndarray) -> np.ndarray:
    """Return the pixels as a vector of mean 0 and length 1."""
    flat = image.ravel() - image.mean()
    return flat / max(float(np.linalg.norm(flat)), 1e-6)


@lru_cache(maxsize=1)
def _template() -> np.ndarray:
    mean = np.mean([_coarse(image) for image in typical_phantoms(8 * SIZE)], axis=0)
    return mean / np.linalg.norm(mean)
