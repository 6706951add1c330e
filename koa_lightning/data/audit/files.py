"""Files that are poor pictures of a knee: unreadable, blank, over-exposed, of odd size, or with text on the joint."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from scipy import ndimage

from koa_lightning.data import both_knees
from koa_lightning.data.audit.findings import NOTE, WARNING, Finding
from koa_lightning.data.fitting import framed
from koa_lightning.data.parallel import in_order

STATISTICS = ("brightness", "contrast", "sharpness", "one_value", "dark", "light", "flat_rows", "marks")
_CHUNK = 64  # images per task
_DAMAGED = "truncated or damaged image"  # start of the message of `images.decode`

_ALIKE, _ONE_VALUE = 8, 0.95  # blank: this many adjacent gray levels hold over this share of pixels
_ENDS = (6, 249)  # the ends of the gray scale
_DARK, _LIGHT = 0.5, 0.4  # exposure: share of pixels there (collimation is dark, nothing is white)
_FAR = 7.5  # robust standard deviations from the median of the folder: exposure
_TIMES_LESS = 4  # ... or this many times below the median
_FEW = 20  # images: with fewer the others are no reference
_WHITE, _FLAT, _JUMP = 245, 252, 25  # gray levels of a mark: edge, middle, and drop to its surroundings
_LETTERS, _LARGE = 3, 0.002  # this many small marks, or one with this share of the image
_FLAT_ROWS = 0.10  # of the height, at the bottom, all of one middle gray: cut off
_RARE = 0.02  # a size with a larger share of files is not unusual
_SIDE, _ASPECT = 1.6, 1.2  # factors from the median within which a size is never unusual


def image_statistics(images: np.ndarray, shapes: np.ndarray, quiet: bool = False) -> pd.DataFrame:
    """Return the measures of each image inside its own frame, without the padding to the square.

    Args:
        images: uint8 N x S x S, letterboxed.
        shapes: N x 2, rows and columns before that; 0 where unreadable (measured with padding).
        quiet: No progress bar.

    Returns:
        N rows: brightness (mean, 0..255), contrast (standard deviation), sharpness (standard deviation of the
        Laplacian), one_value, dark, light and flat_rows (shares, 0..1), marks (pixels of sharp flat shapes over the
        joint, as a share of the image).
    """
    chunks = [range(start, min(start + _CHUNK, len(images))) for start in range(0, len(images), _CHUNK)]
    rows: list[list[float]] = []
    with closing(in_order(lambda rows: _measure_chunk(images, shapes, rows), chunks)) as results, _bar(quiet) as bar:
        shown = bar.add_task("measuring pictures", total=len(images))
        for some in results:
            rows += some
            bar.advance(shown, len(some))
    return pd.DataFrame(rows, columns=list(STATISTICS), dtype=float)


def _bar(quiet: bool) -> Progress:
    return Progress(console=Console(stderr=True), disable=quiet)


def _measure_chunk(images: np.ndarray, shapes: np.ndarray, rows: range) -> list[list[float]]:
    return [_measure_one(framed(images[row], shapes[row])) for row in rows]


def _measure_one(image: np.ndarray) -> list[float]:
    counts = np.bincount(image.ravel(), minlength=256) / image.size
    levels = np.arange(256)
    mean = float(counts @ levels)
    deviation = float(np.sqrt(counts @ (levels - mean) ** 2))
    one_value = float(np.convolve(counts, np.ones(_ALIKE)).max())
    return [
        mean,
        deviation,
        sharpness(image),
        one_value,
        float(counts[: _ENDS[0]].sum()),
        float(counts[_ENDS[1] + 1 :].sum()),
        flat_rows(image),
        marks_over_joint(image),
    ]


def sharpness(image: np.ndarray) -> float:
    """Return the standard deviation of the Laplacian of an image uint8 H x W; 0 under 3 pixels."""
    if min(image.shape) < 3:
        return 0.0
    x = image.astype(np.int16)
    inner = x[1:-1, 1:-1]
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * inner
    return float(laplacian.std())


def flat_rows(image: np.ndarray) -> float:
    """Return the share of the height, at the bottom, that is one middle gray: decoders fill cut-off files so."""
    low, high = image.min(axis=1).astype(int), image.max(axis=1).astype(int)
    flat = (high - low <= 2) & (low > 32) & (high < 224)
    rows = len(flat) if flat.all() else int(np.argmin(flat[::-1]))
    return rows / len(image)


def marks_over_joint(image: np.ndarray) -> float:
    """Return the share of an image covered by sharp, flat, white or black shapes in its middle: text, masks, markers.

    A shape is a connected region of one extreme value that ends within two pixels nearly all around; bone and air
    blend more slowly. One large shape counts, or several small ones, such as letters. Best effort.

    Args:
        image: uint8 H x W.
    """
    if min(image.shape) < 32:
        return 0.0
    covered = 0
    for bright in (image, 255 - image):
        areas = _sharp_shapes(bright)
        if len(areas) >= _LETTERS or max(areas, default=0) >= _LARGE * image.size:
            covered += sum(areas)
    return covered / image.size


def _sharp_shapes(image: np.ndarray) -> list[int]:
    """Return the areas, in pixels, of the white shapes that are sharp all around and reach into the middle."""
    height, width = image.shape
    labels, _ = ndimage.label(image >= _WHITE)
    areas = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        if max(high, wide) < 0.025 * height or min(high, wide) < 2 or high * wide > 0.3 * image.size:
            continue
        if rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width:
            continue  # at the border: collimation, air beside the leg
        if rows.stop < 0.25 * height or rows.start > 0.75 * height or columns.stop < 0.1 * width:
            continue
        if columns.start > 0.9 * width:
            continue
        around = (slice(max(0, rows.start - 4), rows.stop + 4), slice(max(0, columns.start - 4), columns.stop + 4))
        shape = labels[around] == number
        ring = ndimage.binary_dilation(shape, iterations=2) & ~ndimage.binary_dilation(shape)
        if np.median(image[around][shape]) >= _FLAT and np.mean(image[around][ring] < _WHITE - _JUMP) > 0.9:
            areas.append(int(shape.sum()))
    return areas


def unreadable(paths: Sequence[str], faults: dict[int, str]) -> list[Finding]:
    """Return a finding for each image that could not be decoded."""
    found = []
    for row, why in sorted(faults.items()):
        kind = "truncated" if _DAMAGED in why else "unreadable"
        found.append(Finding(kind, WARNING, [paths[row]], why.removeprefix(f"{paths[row]}: "), {}, [row]))
    return found


def pictures(paths: Sequence[str], statistics: pd.DataFrame, faults: dict[int, str]) -> list[Finding]:
    """Return the faults of pictures found by their measures: cut off, blank, exposure, marks."""
    readable = ~np.isin(np.arange(len(statistics)), list(faults))
    blank = readable & (statistics["one_value"] >= _ONE_VALUE).to_numpy()
    usual = statistics[readable & ~blank]
    normal = {name: robust(usual[name]) for name in ("brightness", "contrast")} if len(usual) >= _FEW else {}
    found = []
    values = statistics[list(STATISTICS)].to_numpy(dtype=float).round(4).tolist()
    for row in np.flatnonzero(readable).tolist():
        one = dict(zip(STATISTICS, values[row], strict=True))
        kind, words, severity = "", "", WARNING
        if blank[row]:
            kind, words = "blank", f"{one['one_value']:.1%} of the pixels have one value"
        elif one["flat_rows"] >= _FLAT_ROWS:
            kind, words = "truncated", f"the lowest {one['flat_rows']:.0%} of the rows are one flat gray"
        elif words := _exposure(one, normal):
            kind = "exposure"
        elif one["marks"] > 0:
            kind, severity = "burnt_in", NOTE
            words = f"sharp white or black shapes over the joint, {one['marks']:.1%} of the picture (best effort)"
        if kind:
            found.append(Finding(kind, severity, [paths[row]], words, dict(one), [row]))
    return found


def _exposure(one: dict[str, float], normal: dict[str, tuple[float, float]]) -> str:
    for name, which, limit in (("dark", "darkest", _DARK), ("light", "lightest", _LIGHT)):
        if one[name] > limit:
            return f"{one[name]:.0%} of the pixels are at the {which} end of the gray scale"
    for name, (middle, spread) in normal.items():
        far = (one[name] - middle) / spread
        if abs(far) > _FAR or one[name] < middle / _TIMES_LESS:
            return f"{name} {one[name]:.0f}, but the median is {middle:.0f} ({far:+.1f} robust standard deviations)"
    return ""


def robust(values: pd.Series) -> tuple[float, float]:
    """Return the median and the median absolute deviation scaled to a standard deviation, at least one gray level."""
    middle = float(values.median())
    return middle, max(1.0, 1.4826 * float((values - middle).abs().median()))


def films(paths: Sequence[str], rows: Sequence[int]) -> list[Finding]:
    """Return a finding for each file that shows both knees.

    Args:
        paths: N files.
        rows: Rows of the files that show both knees.
    """
    words = f"shows both knees but counts as one; cut it with {both_knees.PREPARE}"
    return [Finding("both_knees", WARNING, [paths[row]], words, {}, [row]) for row in rows]


def sizes(paths: Sequence[str], shapes: np.ndarray) -> list[Finding]:
    """Return the files with a size or aspect that is far from the median and rare.

    Args:
        paths: N files.
        shapes: N x 2, rows and columns; 0 where unreadable.
    """
    rows = np.flatnonzero(shapes.min(axis=1) > 0)
    if not len(rows):
        return []
    side, aspect = (np.log(values) for values in (np.sqrt(shapes[rows].prod(axis=1)), np.divide(*shapes[rows].T)))
    odd_side, odd_aspect = _odd(side, _SIDE), _odd(aspect, _ASPECT)
    median = np.median(shapes[rows], axis=0)
    found = []
    for at in np.flatnonzero(odd_side | odd_aspect):
        height, width = (int(n) for n in shapes[rows[at]])
        what = " and ".join(["size"] * bool(odd_side[at]) + ["aspect"] * bool(odd_aspect[at]))
        words = f"{width} x {height} pixels; the median is {median[1]:.0f} x {median[0]:.0f}: unusual {what}"
        numbers = {"width": width, "height": height}
        found.append(Finding("odd_size", WARNING, [paths[rows[at]]], words, numbers, [int(rows[at])]))
    return found


def _odd(values: np.ndarray, factor: float) -> np.ndarray:
    """Tell which logarithms are rare and exceed the factor and the usual spread from the median."""
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    far = np.abs(values - middle) > max(np.log(factor), 4 * spread)
    ordered = np.sort(values)
    like = np.searchsorted(ordered, values + 0.1, "right") - np.searchsorted(ordered, values - 0.1, "left")
    return far & (like <= max(1, _RARE * len(values)))
