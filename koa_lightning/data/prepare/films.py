"""Radiographs of both knees: detected, split into right and left, and each joint cropped to a square.

Nothing is learned from patients: joints are found by multi-scale normalised cross-correlation with the mean phantom
knee, a method described in `joint_centre` and measured by `python -m benchmarks.films`. Research use only, not a
medical device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from koa_lightning.data.gray import MIN_SIDE
from koa_lightning.data.phantom.typical import typical_phantoms
from koa_lightning.errors import InputError

SPLITS = ("auto", "never", "always")

_SIDE = 40  # pixels of the template, to which a knee is shrunk at each tested width
_WIDTHS = 1.05 * 1.07 ** np.arange(-21.0, 1.0)  # of a knee, in shares of the film's short side: 0.25 to 1.05
_FINE = 4  # the film is first shrunk to a short side of this many templates
_LINE = 9  # template's pixels: lower dark structures are the joint space
_INSIDE = 0.35  # of a knee's width: minimum distance of its middle from the film's border
_FLAT = 0.01  # standard deviation of grays in 0..1, below which a window is blank
_CROP = 0.91  # real knees fill the crops of Chen 2018 more than phantoms do: median ratio of widths, train split

_LEAST = 64  # pixels of the short side: joints cannot be found in smaller films
_ASPECT = 1.15  # minimum ratio of width to height of a film of both knees
_LIKE = 0.35  # minimum correlation of each knee of a pair, and of a single knee to crop
_SAME = 1  # maximum steps between the widths of a patient's two knees
_APART = 0.8  # minimum distance of the two joints, in widths of a knee
_LEVEL = 0.7  # maximum difference of their heights, in widths of a knee
_MIDDLE = 0.1  # of the film's width to either side of its middle: no knee of a pair lies there
_FILLS = 0.75  # a knee with this share of the short side is already a crop

_ROWS = {"": "RL", "L": "RL", "R": "LR"}  # direction of the rows -> sides from left to right


@dataclass(frozen=True)
class Knee:
    """One knee cut from a film.

    Attributes:
        side: "R" or "L" of the patient; "" if unknown.
        image: The square around the joint, in the film's own type; black beyond the film.
        centre: x and y of the middle of the square, in pixels of the film.
        width: Side of the square, in pixels of the film.
    """

    side: str
    image: np.ndarray
    centre: tuple[float, float]
    width: int


@dataclass(frozen=True)
class _Match:
    """Fit of the mean phantom: correlation, and middle and width in pixels of the film."""

    score: float
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class _Map:
    """Correlations at one width: entry (0, 0) has the template's middle at `start`; entries are `step` apart."""

    scores: np.ndarray
    width: float
    start: float
    step: float

    def best(self, low: float, high: float) -> _Match:
        """Return the best match with its middle at x from low to high, in pixels of the film."""
        first, last = (int(np.clip(np.ceil((x - self.start) / self.step), 0, None)) for x in (low, high))
        part = self.scores[:, first : max(last, first + 1)]
        if not part.size:
            return _Match(-1.0, (low + high) / 2, 0.0, self.width)
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        x, y = (self.start + self.step * float(index) for index in (first + column, row))
        return _Match(float(part[row, column]), x, y, self.width)


def split_film(image: np.ndarray, *, split: str = "auto", orientation: str = "") -> list[Knee]:
    r"""Cut a film into its knees.

    With `split="auto"` a film shows both knees under three conditions. It is at least 1.15 times wider than high. A
    joint of about the same width and height is found in each half (see `joint_centre`). Both together resemble knees
    more than anything in the middle of the film does.

    Args:
        image: uint8 or uint16 H x W, bone bright, upright.
        split: "auto", "never" (one knee) or "always" (two knees).
        orientation: DICOM PatientOrientation, e.g. "R\F"; its first letter is the direction of the image's rows.
            "L" and "" are the radiographic convention, in which the patient's right knee is on the image's left; with
            "R" it is on the right. No pixels are mirrored. With any other letter the sides remain "".

    Returns:
        The right and the left knee, in this order (from the image's left to its right if the sides are unknown), or a
        single knee with side "". A single knee that fills three quarters of the short side, and a film without any
        resemblance to a knee, keep the whole short side as width, so that a crop is not cropped again.

    Raises:
        InputError: The type or shape is unsupported, or `split` is unknown.
    """
    _check(image, split)
    maps = _search(image)
    wide = image.shape[1] >= _ASPECT * image.shape[0]
    pair = _pair(maps, image.shape[1]) if split == "always" or (split == "auto" and wide) else None
    if pair is None or (split == "auto" and not _convincing(pair, maps, image.shape[1])):
        return [_single(image, maps)]
    sides = _ROWS.get(orientation.strip()[:1].upper(), ("", ""))
    knees = [_cut(image, side, match, _CROP * match.width) for side, match in zip(sides, pair, strict=True)]
    return sorted(knees, key=lambda knee: knee.side, reverse=True)


def shows_both_knees(image: np.ndarray, *, split: str = "auto", orientation: str = "") -> bool:
    """Tell whether a film shows both knees; see `split_film`. Narrow and tiny pictures show one and need no search.

    Args:
        image: uint8 or uint16 H x W, bone bright, upright.
        split: As in `split_film`.
        orientation: As in `split_film`.
    """
    if split == "never" or image.shape[1] < _ASPECT * image.shape[0] or min(image.shape) < _LEAST:
        return False
    return len(split_film(image, split=split, orientation=orientation)) == 2


def joint_centre(image: np.ndarray) -> tuple[tuple[float, float], float]:
    """Find the middle of the square around the joint of a single knee.

    The film is correlated with the mean of 64 phantom knees, left and right, at 22 widths from 0.25 to 1.05 of its
    short side, each time shrunk so that a knee of that width has 40 pixels. Two normalised correlations (Lewis 1995)
    are averaged. That of the grays separates bone from soft tissue and air. That of the black top-hat with an upright
    line of 9 pixels isolates the joint space, even if narrowed, at its own contrast. The best place and width win. As
    in the crops of Chen 2018, which the phantoms imitate, the middle of the square is the notch between the condyles,
    a little above the joint space.

    Args:
        image: uint8 or uint16 H x W, bone bright, upright.

    Returns:
        x and y of the middle (the first pixel has its middle at 0), and the width of the square, in pixels.

    Raises:
        InputError: The type or shape is unsupported.
    """
    _check(image, "never")
    match = _best(_search(image), 0, image.shape[1])
    return (match.x, match.y), _CROP * match.width


def _check(image: np.ndarray, split: str) -> None:
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16) or min(image.shape) < MIN_SIDE:
        got = f"{image.dtype} {' x '.join(map(str, image.shape))}"
        raise InputError(f"film: got {got}; give uint8 or uint16 H x W, {MIN_SIDE} pixels or more each way")
    if split not in SPLITS:
        raise InputError(f"film: no such split: {split!r}; use {', '.join(SPLITS)}")


def _search(image: np.ndarray) -> list[_Map]:
    """Correlate the film with the template at each width."""
    short = min(image.shape)
    fine = _resize(image.astype(np.float32), _FINE * _SIDE / short)
    low, high = np.percentile(fine, (0.5, 99.5))
    fine = np.clip((fine - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    maps = []
    for width in _WIDTHS * short:
        coarse = _resize(fine, _SIDE / width * short / (_FINE * _SIDE))
        border = _SIDE // 2  # replicated at the borders, as a joint may lie close to them
        channels = _channels(cv2.copyMakeBorder(coarse, border, border, border, border, cv2.BORDER_REPLICATE))
        pairs = zip(channels, _template(), strict=True)
        scores = [_alike(channel, part) for channel, part in pairs]
        step = image.shape[1] / coarse.shape[1]
        start = (_SIDE / 2 - border) * step - 0.5
        mean = np.mean(scores, axis=0)
        _blank_borders(mean, round(_INSIDE * _SIDE))
        maps.append(_Map(mean, float(width), start, step))
    return maps


def _alike(channel: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Correlate; a window without contrast matches nothing (OpenCV returns 1 for some of them)."""
    side, rows, columns = part.shape[0], channel.shape[0] - part.shape[0] + 1, channel.shape[1] - part.shape[1] + 1
    wide = channel.astype(np.float64)
    spread = cv2.sqrBoxFilter(wide, -1, (side, side), anchor=(0, 0)) - cv2.blur(wide, (side, side), anchor=(0, 0)) ** 2
    score = cv2.matchTemplate(channel, part, cv2.TM_CCOEFF_NORMED)
    return np.where(spread[:rows, :columns] > _FLAT**2, score, 0)


def _blank_borders(scores: np.ndarray, border: int) -> None:
    """Exclude middles close to the film's border: black margins below a shaft resemble a joint space."""
    for axis in (scores, scores.T):
        most = min(border, (len(axis) - 1) // 2)
        axis[:most] = axis[len(axis) - most :] = -1


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = (max(1, round(n * factor)) for n in image.shape)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _channels(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the grays, and the dark lines across the leg at their local contrast."""
    dark = cv2.morphologyEx(image, cv2.MORPH_BLACKHAT, np.ones((_LINE, 1), np.uint8))
    return image, dark / (cv2.GaussianBlur(dark, (0, 0), _SIDE / 2) + 0.02)


@lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, ...]:
    """Return both channels of the mean phantom knee, symmetrised so that it stands for either side."""
    inner, total = slice(_SIDE // 2, _SIDE // 2 + _SIDE), np.zeros((2, _SIDE, _SIDE), np.float32)
    for image in typical_phantoms(4 * _SIDE):
        small = _resize(image.astype(np.float32) / 255, 1 / 4)
        padded = np.pad(small, _SIDE // 2, mode="edge")
        total += np.stack(_channels(padded))[:, inner, inner]
    return tuple(np.ascontiguousarray(total + total[:, :, ::-1]))


def _best(maps: list[_Map], low: float, high: float) -> _Match:
    return max((each.best(low, high) for each in maps), key=lambda match: match.score)


def _pair(maps: list[_Map], width: int) -> tuple[_Match, _Match]:
    """Return the best two knees of about the same width, one in each half of the film."""
    narrow = [each for each in maps if each.width <= max(1.05 * width / 2, maps[0].width)]
    lefts, rights = [m.best(0, width / 2) for m in narrow], [m.best(width / 2, width) for m in narrow]
    pairs = [(left, right) for i, left in enumerate(lefts) for right in rights[max(0, i - _SAME) : i + _SAME + 1]]
    return max(pairs, key=lambda pair: pair[0].score + pair[1].score)


def _convincing(pair: tuple[_Match, _Match], maps: list[_Map], width: int) -> bool:
    left, right = pair
    knee = (left.width + right.width) / 2
    middle = _best(maps, (0.5 - _MIDDLE) * width, (0.5 + _MIDDLE) * width)
    return (
        min(left.score, right.score) >= _LIKE
        and (left.score + right.score) / 2 > middle.score
        and right.x - left.x >= _APART * knee
        and abs(right.y - left.y) <= _LEVEL * knee
    )


def _single(image: np.ndarray, maps: list[_Map]) -> Knee:
    """Cut the only knee, or the whole short side around it."""
    height, width = image.shape
    short, match = min(image.shape), _best(maps, 0, width)
    if match.score >= _LIKE and _CROP * match.width < _FILLS * short:
        return _cut(image, "", match, _CROP * match.width)
    x, y = (match.x, match.y) if match.score >= _LIKE else ((width - 1) / 2, (height - 1) / 2)
    x, y = (float(np.clip(at, (short - 1) / 2, n - 1 - (short - 1) / 2)) for at, n in ((x, width), (y, height)))
    return _cut(image, "", _Match(match.score, x, y, short), short)


def _cut(image: np.ndarray, side: str, match: _Match, width: float) -> Knee:
    size = max(1, round(width))
    left, top = (round(at - (size - 1) / 2) for at in (match.x, match.y))
    square = np.zeros((size, size), image.dtype)
    rows = slice(max(0, top), min(image.shape[0], top + size))
    columns = slice(max(0, left), min(image.shape[1], left + size))
    square[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = image[rows, columns]
    return Knee(side, square, (left + (size - 1) / 2, top + (size - 1) / 2), size)
