"""Processing of an image before a model sees it, and the hash of its original pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import xxhash

from koa_lightning.data import polarity
from koa_lightning.data.fitting import fit as fit_image
from koa_lightning.data.fitting import framed

_CHECKED_AT = 224  # pixels: the size at which polarity is checked, whatever size a model takes


@dataclass(frozen=True)
class Preprocessing:
    """Processing of an image before a model sees it, apart from normalisation.

    Attributes:
        image_size: Side of the square, in pixels.
        fit: `letterbox` keeps the aspect and pads with black; `stretch` does not.
        canonical_side: `L` or `R`: knees of the other side are mirrored to it; None: none is mirrored.
        fix_polarity: Invert images whose bone is dark.
        top, bottom: The rows to keep, as shares of the height: a band around the joint appears larger.
    """

    image_size: int = 224
    fit: str = "letterbox"
    canonical_side: str | None = None
    fix_polarity: bool = False
    top: float = 0.0
    bottom: float = 1.0

    def apply(self, image: np.ndarray, side: str = "") -> np.ndarray:
        """Return a uint8 H x W image as uint8 image_size x image_size."""
        return self.repaired(image, side)[0]

    def repaired(self, image: np.ndarray, side: str = "") -> tuple[np.ndarray, bool]:
        """Return the result of `apply`, and whether the image was inverted."""
        inverted = self.fix_polarity and _is_inverted(image)
        # before fitting, so that the black padding stays black
        fitted = fit_image(self.band(255 - image if inverted else image), self.image_size, self.fit)
        return (np.ascontiguousarray(fitted[:, ::-1]) if self.mirrors(side) else fitted), inverted

    def band(self, image: np.ndarray) -> np.ndarray:
        """Return the rows of an H x W image to keep, at least one."""
        first, last = self._rows(len(image))
        return image[first:last]

    def restored(self, heat: np.ndarray, shape: Sequence[int], side: str = "") -> np.ndarray:
        """Return a map of a fitted image as a map of the original image.

        Args:
            heat: float32, image_size x image_size, in [0, 1].
            shape: Rows and columns of the original image.
            side: Of the knee.

        Returns:
            float32, H x W, in [0, 1]; 0 in the dropped rows.
        """
        if self.mirrors(side):
            heat = heat[:, ::-1]
        height, width = int(shape[0]), int(shape[1])
        first, last = self._rows(height)
        inner = framed(heat, (last - first, width)) if self.fit == "letterbox" else heat
        whole = np.zeros((height, width), dtype=np.float32)
        resized = cv2.resize(np.ascontiguousarray(inner, dtype=np.float32), (width, last - first))  # bilinear
        whole[first:last] = np.clip(resized, 0, 1)
        return whole

    def _rows(self, height: int) -> tuple[int, int]:
        first = min(round(self.top * height), height - 1)
        return first, max(first + 1, round(self.bottom * height))

    def mirrors(self, side: str) -> bool:
        """Tell whether a knee of this side is mirrored."""
        return bool(self.canonical_side) and side in ("L", "R") and side != self.canonical_side


def _is_inverted(image: np.ndarray) -> bool:
    # the same pixels as in the audit, so that it reports exactly the repaired images
    shown = framed(fit_image(image, _CHECKED_AT, "letterbox"), image.shape)
    return bool(polarity.inverted(shown[None])[0])


def hash_pixels(image: np.ndarray) -> str:
    """Return the hash (XXH3, 16 bytes, hex) of a uint8 H x W image; equal pixels in any file have equal hashes.

    It is computed for every decoded knee, and BLAKE2b would take a tenth of the decoding time. Nobody gains from making
    two radiographs collide, so a cryptographic hash is not needed.
    """
    digest = xxhash.xxh3_128(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image))
    return digest.hexdigest()
