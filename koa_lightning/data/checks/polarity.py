"""Inverted radiographs: bone dark instead of bright.

About one in a hundred knees of Chen 2018 is inverted, and the share differs by grade, so that a network can learn it as
a shortcut. What is looked at is coarse: an image of 14 x 14 pixels is correlated with the mean phantom knee. A knee
gives more than 0.39 on the real data, an inverted one less than -0.5; nothing is learned from the data itself.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from koa_lightning.data.phantom import draw_phantoms, phantom_manifest

SIZE = 14  # pixels: the dark joint space and the dark air beside the bone remain, single knees do not
_PATIENTS = 32


def inverted(images: np.ndarray) -> np.ndarray:
    """Tell which images uint8 N x H x W show bone dark; bool N."""
    return scores(images) < 0


def scores(images: np.ndarray) -> np.ndarray:
    """Return the correlation of each image uint8 N x H x W with the mean phantom, float N; inverted ones are negative.

    A blank image gives 0.
    """
    coarse = [_coarse(image) for image in images]
    return np.array([each @ _template() for each in coarse], dtype=np.float64)


def _coarse(image: np.ndarray) -> np.ndarray:
    small = cv2.resize(np.asarray(image, dtype=np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-6)


@lru_cache(maxsize=1)
def _template() -> np.ndarray:
    knees = phantom_manifest(_PATIENTS, seed=0)
    drawn = draw_phantoms(
        knees["patient"].tolist(), knees["side"].tolist(), knees["grade"].tolist(), seed=0, size=8 * SIZE
    )
    mean = np.mean([_coarse(image) for image in drawn], axis=0)
    return mean / np.linalg.norm(mean)
