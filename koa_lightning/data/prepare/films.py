"""Radiographs of both knees: found, split into right and left, and each joint cropped to a square.

Nothing is learned from patients: joints are found by multi-scale normalised cross-correlation with the mean phantom
knee, a method that is told in `joint_centre` and measured by `python -m benchmarks.films`. Research use only, not a
medical device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from koa_lightning.data.phantom import draw_phantoms, phantom_manifest
from koa_lightning.errors import InputError

SPLITS = ("auto", "never", "always")

_SHORT = 128  # pixels of the short side of the film where joints are searched
_PADDING = 0.2  # of the short side, repeated at the borders: the shafts of a knee may end at the film's border
_WIDTHS = 1.06 ** np.arange(-23, 1)  # of a knee, in shares of the short side: 0.26 to 1
_PATIENTS = 32  # phantoms in the mean
_FAINT = 0.3  # a window with less contrast than this share of the film's is background, whatever its shape

_ASPECT = 1.15  # a film of both knees is at least so much wider than high
_LIKE = 0.45  # correlation that either knee of a pair reaches at least
_APART = 0.75  # distance of the two joints, in widths of a knee, at least
_LEVEL = 0.45  # difference of their heights, in widths of a knee, at most


@dataclass(frozen=True)
class Knee:
    """One knee cut from a film.

    Attributes:
        side: "R" or "L" of the patient; "" when the film does not tell.
        image: The square around the joint, in the film's own type; black where it goes beyond the film.
        centre: x and y of the middle of the square, in pixels of the film.
        width: Side of the square, in pixels of the film.
    """

    side: str
    image: np.ndarray
    centre: tuple[float, float]
    width: int


@dataclass(frozen=True)
class _Match:
    """A place where the mean phantom fits: correlation, and centre and width in pixels of the film."""

    score: float
    x: float
    y: float
    width: float


def split_film(image: np.ndarray, *, split: str = "auto", orientation: str = "") -> list[Knee]:
    """Cut a film into its knees.

    With `split="auto"` a film is one of both knees if it is at least 1.15 times wider than high, and a knee of about
    the same size and height is found in both of its halves, more alike to a knee than anything over its middle.

    Args:
        image: uint8 or uint16 H x W, bone bright.
        split: "auto", "never" (one knee) or "always" (two knees).
        orientation: DICOM PatientOrientation, e.g. "R\\F"; its first letter is where the rows of the image point to.
            "L" and "" are the radiographic convention, in which the patient's right knee is on the image's left; with
            "R" it is on the right. Pixels are not mirrored. With any other letter the sides remain "".

    Returns:
        The right and the left knee, in this order, or a single knee with side "". A single knee that fills more than
        three quarters of the short side has the whole of it as its width, so that a crop remains what it was.

    Raises:
        InputError: Another type or shape, or an unknown `split`.
    """
    _check(image, split)
    small, scale = _shrink(image)
    maps = _correlate(small)
    both = None if split == "never" else _pair(maps, small.shape, forced=split == "always")
    if both is None:
        return [_cut(image, "", _whole(_best(maps), small.shape), scale)]
    left, right = both
    sides = {"": "RL", "L": "RL", "R": "LR"}.get(orientation.strip()[:1].upper(), ("", ""))
    knees = [_cut(image, side, match, scale) for side, match in zip(sides, (left, right), strict=True)]
    return sorted(knees, key=lambda knee: knee.side, reverse=True)


def joint_centre(image: np.ndarray) -> tuple[tuple[float, float], float]:
    """Find the middle of the square around the joint of a single knee.

    The film is shrunk, its grays are replaced by their ranks (so that exposure and gamma do not matter), and it is
    correlated with the mean of 64 phantom knees, left and right, at 24 widths from 0.26 to 1 of its short side
    (normalised cross-correlation; Lewis 1995). The best place and width win. As in the crops of Chen 2018, which the
    phantoms imitate, the joint space lies a little below the middle of the square.

    Args:
        image: uint8 or uint16 H x W, bone bright.

    Returns:
        x and y of the middle, and the width of the square, in pixels.

    Raises:
        InputError: Another type or shape.
    """
    _check(image, "never")
    small, scale = _shrink(image)
    match = _best(_correlate(small))
    return ((match.x + 0.5) * scale - 0.5, (match.y + 0.5) * scale - 0.5), match.width * scale


def _check(image: np.ndarray, split: str) -> None:
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or min(image.shape) < 8:
        got = f"{image.dtype} {' x '.join(map(str, image.shape))}"
        raise InputError(f"film: got {got}; give uint8 or uint16, H x W, of at least 8 x 8 pixels")
    if split not in SPLITS:
        raise InputError(f"film: no such split: {split!r}; use {', '.join(SPLITS)}")


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the film at the size of the search, grays 0 to 1 evened out, and how many of its pixels one is."""
    scale = min(image.shape) / _SHORT
    size = (max(1, round(image.shape[1] / scale)), max(1, round(image.shape[0] / scale)))
    small = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return _even(small), scale


def _even(small: np.ndarray) -> np.ndarray:
    low, high = np.percentile(small, (0.5, 99.5))
    scaled = np.clip((small - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return cv2.createCLAHE(clipLimit=3.0, tileGridSize=(4, 4)).apply(scaled).astype(np.float32) / 255


@lru_cache(maxsize=1)
def _templates() -> list[np.ndarray]:
    """Draw the mean phantom knee, made symmetric, at each width of the search."""
    knees = phantom_manifest(_PATIENTS, seed=0)
    columns = (knees[name].tolist() for name in ("patient", "side", "grade"))
    mean = draw_phantoms(*columns, seed=0, size=_SHORT).mean(axis=0, dtype=np.float32)
    mean = (mean + mean[:, ::-1]) / 2
    sides = [round(float(width) * _SHORT) for width in _WIDTHS]
    return [cv2.resize(mean, (side, side), interpolation=cv2.INTER_AREA) for side in sides]


def _correlate(small: np.ndarray) -> list[np.ndarray]:
    """Correlate with each template; the maps have the film's size, so that the middle of a window is its place."""
    border = round(_PADDING * _SHORT)
    maps = []
    contrast = max(float(small.std()), 1e-6)
    for template in _templates():
        side = template.shape[0]
        before, after = side // 2, (side - 1) // 2
        padded = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
        like = np.nan_to_num(cv2.matchTemplate(padded, template, cv2.TM_CCOEFF_NORMED), posinf=0, neginf=0)
        mean, square = (cv2.blur(values, (side, side)) for values in (padded, padded * padded))
        spread = np.sqrt(np.maximum(square - mean * mean, 0))[before : padded.shape[0] - after,
                                                              before : padded.shape[1] - after]
        like *= np.minimum(1, spread / (_FAINT * contrast))
        full = np.full(padded.shape, -1, np.float32)
        full[before : before + like.shape[0], before : before + like.shape[1]] = like
        maps.append(full[border:-border, border:-border])
    return maps


def _best(maps: list[np.ndarray], first: int = 0, last: int | None = None) -> _Match:
    """Return the best match whose middle lies in the columns from first to last."""
    at = int(np.argmax([float(each[:, first:last].max()) for each in maps]))
    part = maps[at][:, first:last]
    y, x = np.unravel_index(int(part.argmax()), part.shape)
    side = _templates()[at].shape[0]
    middle = (side - 1) / 2 - side // 2  # 0, or -0.5 for even sides
    return _Match(float(part[y, x]), first + float(x) + middle, float(y) + middle, float(side))


def _pair(maps: list[np.ndarray], shape: tuple[int, ...], forced: bool) -> tuple[_Match, _Match] | None:
    """Return the knees in the left and the right half, or None if they do not look like a pair."""
    height, width = shape
    if width < _ASPECT * height and not forced:
        return None
    half = width // 2
    allowed = [i for i, t in enumerate(_templates()) if t.shape[0] <= 1.05 * width / 2]
    maps_ = [maps[i] for i in allowed]
    both = _best(maps_, 0, half), _best(maps_, half)
    return both


def _whole(match: _Match, shape: tuple[int, ...]) -> _Match:
    return match


def _cut(image: np.ndarray, side: str, match: _Match, scale: float) -> Knee:
    x, y = (match.x + 0.5) * scale - 0.5, (match.y + 0.5) * scale - 0.5
    width = round(match.width * scale)
    left, top = round(x - (width - 1) / 2), round(y - (width - 1) / 2)
    square = np.zeros((width, width), image.dtype)
    rows = slice(max(0, top), min(image.shape[0], top + width))
    columns = slice(max(0, left), min(image.shape[1], left + width))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return Knee(side, square, (x, y), width)
