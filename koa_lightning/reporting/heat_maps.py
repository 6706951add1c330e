"""Panels of knees with their class activation maps. Research use only, not a medical device."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from PIL import Image, ImageDraw, ImageFont

from koa_lightning.errors import InputError
from koa_lightning.reporting.figures import CAVEAT_COLOUR, GRADE_NAMES, INK, QUIET, stamp

HEAT = colormaps["inferno"]
STRONGEST = 0.65  # share of colour where the heat is 1: the radiograph stays visible under it
RIGHT_COLOUR = "#0b6e99"
_LONGEST_NAME = 25  # letters


def choose_knees(
    grade: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    expected: Sequence[float] | np.ndarray,
    n_worst: int = 5,
) -> list[int]:
    """Knees to show, by a fixed rule, so that nobody picks the pretty ones.

    The first knee of each grade, ascending, the same in every epoch and for every model; then the worst mistakes:
    wrongly graded knees of largest |expected - grade|, the first of equals first.

    Args:
        grade: True grade, N.
        predicted: Predicted grade, N.
        expected: Expected grade, N, in [0, 4].
        n_worst: How many mistakes at most.

    Returns:
        Row numbers without repeats.
    """
    grade, predicted, expected = np.asarray(grade), np.asarray(predicted), np.asarray(expected)
    correct = predicted == grade
    chosen = [int(first) for first in np.unique(grade, return_index=True)[1]]
    worst_first = np.argsort(-np.abs(expected - grade), kind="stable")
    mistakes = [int(knee) for knee in worst_first if not correct[knee] and knee not in chosen]
    return chosen + mistakes[:n_worst]


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat over a radiograph; no heat leaves it gray, full heat still lets a third of it through.

    Args:
        image: uint8, H x W.
        heat: Float, H x W, in [0, 1].

    Returns:
        uint8, H x W x 3.

    Raises:
        InputError: Shapes or types differ from these, or heat is outside [0, 1].
    """
    if image.ndim != 2 or image.shape != heat.shape or image.dtype != np.uint8:
        raise InputError(
            f"overlay of {image.dtype} {image.shape} and heat {heat.shape}: give uint8 and heat, both H x W"
        )
    if not ((heat >= 0) & (heat <= 1)).all():
        raise InputError("overlay of heat outside 0 to 1 or NaN: scale the map to 0 to 1")
    share = STRONGEST * heat[..., None]
    blended = (1 - share) * image[..., None] + share * 255 * HEAT(heat)[..., :3]
    return blended.round().astype(np.uint8)


def cam_panel(
    images: np.ndarray,
    maps: np.ndarray,
    grade: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    caveats: Sequence[str] = (),
    notes: Sequence[str] = (),
    label: str = "Grad-CAM",
) -> Figure:
    """Radiograph, heat map and probabilities of each knee, two knees a row, mistakes in red.

    Args:
        images: uint8, N x H x W.
        maps: Float, N x H x W, in [0, 1], on one colour scale for all knees.
        grade: True grade, N.
        predicted: Predicted grade, N.
        probabilities: Float, N x 5, in [0, 1].
        names: What each knee is called, N.
        caveats: See `koa_lightning.reporting.figures.stamp`.
        notes: Why each knee is shown, N; none without.
        label: What the maps are.

    Returns:
        A figure.

    Raises:
        InputError: No knee, or lengths or shapes that do not fit.
    """
    notes = notes or [""] * len(names)
    lengths = {len(each) for each in (images, maps, grade, predicted, probabilities, names, notes)}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(f"panel of arrays of lengths {sorted(lengths)}: give at least one knee and one entry each")
    columns = min(2, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(6.2 * columns + 0.9, 2.45 * rows + 0.6), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=[6.2 * columns, 0.9])
    knees, scale = parts
    cells = np.ravel(knees.subfigures(rows, columns, hspace=0.02, wspace=0.02))
    for index, (cell, name) in enumerate(zip(cells, names, strict=False)):
        pictures = images[index], overlay(images[index], maps[index])
        _draw_knee(cell, pictures, int(grade[index]), int(predicted[index]), probabilities[index], name)
        cell.get_axes()[0].set_xlabel(notes[index], fontsize=8, color=INK, fontweight="bold")
    _draw_scale(scale, label)
    stamp(figure, caveats)
    return figure


def _draw_knee(
    cell: SubFigure,
    pictures: tuple[np.ndarray, np.ndarray],
    grade: int,
    predicted: int,
    probabilities: np.ndarray,
    name: str,
) -> None:
    colour = RIGHT_COLOUR if predicted == grade else CAVEAT_COLOUR
    verdict = "" if predicted == grade else "   ✗ mistake"
    cell.suptitle(
        f"{_short(name)}   true {GRADE_NAMES[grade]}   predicted {GRADE_NAMES[predicted]}{verdict}",
        x=0.02, ha="left", fontsize=9, fontweight="bold", color=colour,
    )  # fmt: skip
    *picture_axes, bars = cell.subplots(1, 3, width_ratios=[1, 1, 0.9])
    for axes, picture in zip(picture_axes, pictures, strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=colour, linewidth=1 if predicted == grade else 2.5)
    if not (pictures[1] != pictures[0][..., None]).any():
        picture_axes[1].set_xlabel("the map is 0 everywhere", fontsize=7, color=QUIET)
    _draw_probabilities(bars, grade, predicted, probabilities, colour)


def _short(name: str) -> str:
    """Return a name with its middle omitted where the grades beside it would find no room."""
    half = (_LONGEST_NAME - 1) // 2
    return name if len(name) <= _LONGEST_NAME else f"{name[:half]}…{name[-half:]}"


def _draw_probabilities(axes: Axes, grade: int, predicted: int, probabilities: np.ndarray, colour: str) -> None:
    colours = [colour if each == predicted else "#c9d0d6" for each in range(len(GRADE_NAMES))]
    bars = axes.bar(range(len(GRADE_NAMES)), probabilities, color=colours, width=0.8)
    axes.bar_label(bars, [f"{share:.0%}" for share in probabilities], fontsize=7, color=INK, padding=1)
    axes.set_ylim(0, 1.12)
    axes.set(yticks=[], xticks=range(len(GRADE_NAMES)))
    axes.tick_params(length=0, labelsize=8, colors=QUIET)
    label = axes.get_xticklabels()[grade]
    label.set(fontweight="bold", color=INK, bbox={"boxstyle": "round,pad=0.25", "fc": "none", "ec": INK, "lw": 1})
    axes.set_xlabel("probability (true grade framed)", fontsize=7, color=QUIET)
    axes.spines[["top", "left", "right"]].set_visible(False)


def _draw_scale(place: SubFigure, label: str) -> None:
    """The colours as they look over mid-gray bone, 0 to 1 whatever the maps hold."""
    levels = np.linspace(0, 1, 256)
    seen = overlay(np.full((1, 256), 128, np.uint8), levels[None])[0] / 255
    axes = place.subplots()
    place.colorbar(ScalarMappable(Normalize(0, 1), ListedColormap(seen)), cax=axes)
    axes.set_ylabel(f"{label}\n(each map scaled to its maximum)", fontsize=8, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET)
    axes.spines[:].set_visible(False)


def with_words(picture: np.ndarray, words: Sequence[str], size: int = 10) -> Image.Image:
    """Return a picture with a band of words below it, broken into lines that fit.

    Args:
        picture: uint8, H x W x 3.
        words: One statement each.
        size: Of the letters, in pixels.
    """
    font = ImageFont.load_default(size=size)
    height, width = picture.shape[:2]
    letters = max(8, int(width / font.getlength("n")))
    lines = [line for word in words for line in textwrap.wrap(word, letters)]
    canvas = Image.new("RGB", (width, height + (size + 2) * len(lines) + 4))
    canvas.paste(Image.fromarray(picture))
    ImageDraw.Draw(canvas).multiline_text((2, height + 1), "\n".join(lines), fill="white", font=font, spacing=2)
    return canvas
