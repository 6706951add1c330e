"""Keypoints of a radiograph that survive cropping, scaling, exposure and encoding: upright SIFT on equalised images."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np

from koa_lightning.data.parallel import in_order

POINTS = 150  # strongest per image: a crop of half the area still keeps dozens
_TASK = 32  # images per task
_local = threading.local()  # OpenCV objects must not be shared between threads


@dataclass(frozen=True)
class Features:
    """Keypoints of one image: points float32 n x 3 (x, y, size, in pixels) and descriptors float32 n x 128."""

    points: np.ndarray
    descriptors: np.ndarray


def extract(image: np.ndarray, n: int = POINTS) -> Features:
    """Return the strongest keypoints of an image.

    Keypoints are SIFT (Lowe 2004), all upright since knees are not rotated. Descriptors are the root of L1-normalised
    ones (RootSIFT, Arandjelovic 2012). Contrast-limited equalisation comes first, so that exposure hardly matters.

    Args:
        image: uint8, H x W.
        n: Maximum number of keypoints.
    """
    sift, equaliser = _tools()
    even = equaliser.apply(np.ascontiguousarray(image))
    keypoints = _upright(sift.detect(even, None), n)
    if not keypoints:
        return Features(np.zeros((0, 3), np.float32), np.zeros((0, 128), np.float32))
    kept, found = sift.compute(even, keypoints)
    shares = found / np.maximum(found.sum(1, keepdims=True), 1e-6)
    points = np.array([(*keypoint.pt, keypoint.size) for keypoint in kept], dtype=np.float32)
    return Features(points, np.sqrt(shares, dtype=np.float32))


def extract_all(images: np.ndarray, n: int = POINTS) -> Iterator[Features]:
    """Yield the keypoints of images uint8 N x H x W in order, found on all cores."""
    starts = range(0, len(images), _TASK)
    found = in_order(lambda start: [extract(image, n) for image in images[start : start + _TASK]], starts)
    with closing(found) as chunks:
        for some in chunks:
            yield from some


def _tools() -> tuple[cv2.SIFT, cv2.CLAHE]:
    if not hasattr(_local, "tools"):
        cv2.setNumThreads(1)  # this module runs its own threads
        # Low thresholds: fine bone texture is weak, but it distinguishes one knee from another.
        sift = cv2.SIFT_create(nfeatures=0, contrastThreshold=0.01, edgeThreshold=20)  # type: ignore[attr-defined]
        _local.tools = (sift, cv2.createCLAHE(clipLimit=3.0, tileGridSize=(8, 8)))
    return _local.tools


def _upright(keypoints: Sequence[cv2.KeyPoint], n: int) -> list[cv2.KeyPoint]:
    """Return the strongest keypoints, all upright; SIFT lists a keypoint once per direction."""
    chosen: dict[tuple[float, float, float], cv2.KeyPoint] = {}
    for keypoint in sorted(keypoints, key=lambda keypoint: -keypoint.response):
        keypoint.angle = 0.0
        chosen.setdefault((round(keypoint.pt[0], 1), round(keypoint.pt[1], 1), round(keypoint.size, 1)), keypoint)
        if len(chosen) == n:
            break
    return list(chosen.values())
