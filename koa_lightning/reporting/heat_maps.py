"""Panels of knees with their class activation maps. Research use only, not a medical device."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, get_data_path
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from PIL import Image, ImageDraw, ImageFont

from koa_lightning.config.figures import current
from koa_lightning.errors import InputError
from koa_lightning.reporting import style
from koa_lightning.reporting.figures import GRADE_NAMES
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, PALE, QUIET

HEAT = colormaps["inferno"]
STRONGEST = 0.65  # opacity where the heat is 1: the radiograph stays visible
_MOST_ROWS = 6  # that fit on a page with one knee each; with two knees each, one fewer
_KNEE, _LEAST = 3.42, 2.9  # inches for a knee with its map and bars: preferred, and minimum
_LONGEST_NAME = 25  # letters


def choose_knees(
    grade: Sequence[int] | np.ndarray,
    predicted: Sequence[int] | np.ndarray,
    expected: Sequence[float] | np.ndarray,
    n_worst: int = 5,
) -> list[int]:
    """Choose the knees to show by a fixed rule, so that none is picked by hand.

    First comes the first knee of each grade, ascending, the same in every epoch and for every model. Then come the
    worst mistakes: the wrongly graded knees with the largest |expected - grade|, ties in row order.

    Args:
        grade: True grade, N.
        predicted: Predicted grade, N.
        expected: Expected grade, N, in [0, 4].
        n_worst: Maximum number of mistakes.

    Returns:
        Row numbers without duplicates.
    """
    grade, predicted, expected = np.asarray(grade), np.asarray(predicted), np.asarray(expected)
    correct = predicted == grade
    chosen = [int(first) for first in np.unique(grade, return_index=True)[1]]
    worst_first = np.argsort(-np.abs(expected - grade), kind="stable")
    mistakes = [int(knee) for knee in worst_first if not correct[knee] and knee not in chosen]
    return chosen + mistakes[:n_worst]


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat over a radiograph; zero heat leaves it gray, full heat still lets a third of it show.

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
            f"overlay of {image.dtype} {image.shape} and heat {heat.shape}: give a uint8 image and heat, both H x W"
        )
    if not ((heat >= 0) & (heat <= 1)).all():
        raise InputError("overlay of heat outside 0 to 1 or NaN: scale the map to 0 to 1")
    share = STRONGEST * heat[..., None]
    blended = (1 - share) * image[..., None] + share * 255 * HEAT(heat)[..., :3]
    return blended.round().astype(np.uint8)


@style.drawn
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
    """Radiograph, heat map and probabilities of each knee, as many per row as stay legible, mistakes in red.

    Args:
        images: uint8, N x H x W.
        maps: Float, N x H x W, in [0, 1], on one colour scale for all knees.
        grade: True grade, N.
        predicted: Predicted grade, N.
        probabilities: Float, N x 5, in [0, 1].
        names: Name of each knee, N.
        caveats: See `koa_lightning.reporting.saving.stamp`.
        notes: Why each knee is shown, N; empty: no notes.
        label: Name of the method.

    Returns:
        A figure.

    Raises:
        InputError: There is no knee, or lengths or shapes do not match.
    """
    notes = notes or [""] * len(names)
    lengths = {len(each) for each in (images, maps, grade, predicted, probabilities, names, notes)}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(f"panel of arrays of lengths {sorted(lengths)}: give at least one knee and one entry each")
    width = style.inches(_KNEE * min(2, len(images)))
    columns, with_bars = _layout(len(images), width)
    place = width / columns
    shown = range(len(names))
    titles = [
        _title(names[i], int(grade[i]), int(predicted[i]), notes[i], place, None if with_bars else probabilities[i])
        for i in shown
    ]
    letter = style.small() * 1.25 / 72
    # square pictures and the bars share the width
    picture = (place - 0.35) / (3 if with_bars else 2) * images.shape[1] / images.shape[2]
    rows = [titles[first : first + columns] for first in range(0, len(titles), columns)]
    heights = [picture + 0.2 + letter * max(title.count("\n") + 1 for title in row) for row in rows]
    words = f"{label} (each map scaled to its maximum)" + "; bars: probabilities, true grade framed" * with_bars
    words = style.wrap(words, width - 0.25, style.small())
    below = 0.62 + letter * (words.count("\n") + 1)
    figure = Figure(figsize=(width, sum(heights) + below + 0.35), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[sum(heights), below])
    knees, scale = parts
    cells = np.ravel(knees.subfigures(len(rows), columns, hspace=0, wspace=0, height_ratios=heights))
    for index, (cell, title) in enumerate(zip(cells, titles, strict=False)):
        pictures = images[index], overlay(images[index], maps[index])
        shares = probabilities[index] if with_bars else None
        _draw_knee(cell, pictures, int(grade[index]), int(predicted[index]), shares, title)
    _draw_scale(scale, words, width)
    stamp(figure, caveats)
    return figure


def _layout(n: int, width: float) -> tuple[int, bool]:
    """Return the number of knees per row, and whether each has room for its bars on a page."""
    columns = style.columns(width, _LEAST, min(2, n))
    if columns == 1:
        return (1, True) if n <= _MOST_ROWS else (2, False)
    crowded = current().width is not None and -(-n // columns) >= _MOST_ROWS
    return (style.columns(width, _LEAST / 2, 4), False) if crowded else (columns, True)


def _title(name: str, grade: int, predicted: int, note: str, width: float, probabilities: np.ndarray | None) -> str:
    """Return the title above a knee, wrapped to `width` inches."""
    verdict = "" if predicted == grade else "  ✗\u00a0mistake"
    share = "" if probabilities is None else f" ({probabilities[predicted]:.0%})"
    graded = f"true {GRADE_NAMES[grade]}, predicted {GRADE_NAMES[predicted]}{share}{verdict}"
    called = _short(name, int((width - 0.2) * 72 / (0.64 * style.small())) - 1)
    lines = [f"{called}: {note}" if note else called, graded]
    return "\n".join(style.wrap(line, width - 0.2, style.small(), bold=True) for line in lines)


def _draw_knee(
    cell: SubFigure,
    pictures: tuple[np.ndarray, np.ndarray],
    grade: int,
    predicted: int,
    probabilities: np.ndarray | None,
    title: str,
) -> None:
    colour = style.palette().main if predicted == grade else style.palette().caveat
    cell.suptitle(title, x=0.02, ha="left", fontsize=style.small(), fontweight="bold", color=colour, linespacing=1.15)
    places = cell.subplots(1, 2 if probabilities is None else 3)
    for axes, picture in zip(places, pictures, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=colour, linewidth=0.8 if predicted == grade else 2)
    if not (pictures[1] != pictures[0][..., None]).any():
        places[1].set_xlabel("the map is 0", fontsize=style.small(), color=QUIET)
    if probabilities is not None:
        _draw_probabilities(places[2], grade, predicted, probabilities, colour)


def _short(name: str, letters: int) -> str:
    """Return a name, with its middle omitted if it does not fit."""
    longest = min(_LONGEST_NAME, letters)
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _draw_probabilities(axes: Axes, grade: int, predicted: int, probabilities: np.ndarray, colour: str) -> None:
    """Draw a bar and its share for each grade, the true one framed."""
    colours = [colour if each == predicted else PALE for each in range(len(GRADE_NAMES))]
    bars = axes.barh(range(len(GRADE_NAMES)), probabilities, color=colours, height=0.78)
    axes.bar_label(bars, [f"{share:.0%}" for share in probabilities], fontsize=style.small(), color=INK, padding=2)
    axes.set(xlim=(0, 1.62), ylim=(len(GRADE_NAMES) - 0.4, -0.6), xticks=[], yticks=range(len(GRADE_NAMES)))
    axes.tick_params(length=0, labelsize=style.small(), colors=QUIET)
    label = axes.get_yticklabels()[grade]
    label.set(fontweight="bold", color=INK, bbox={"boxstyle": "square,pad=0.14", "fc": "none", "ec": INK, "lw": 0.8})
    axes.spines[["top", "bottom", "right"]].set_visible(False)


def _draw_scale(place: SubFigure, words: str, width: float) -> None:
    """Draw the colour scale as it looks over mid-gray bone, always from 0 to 1."""
    levels = np.linspace(0, 1, 256)
    seen = overlay(np.full((1, 256), 128, np.uint8), levels[None])[0] / 255
    axes = place.subplots()
    place.colorbar(ScalarMappable(Normalize(0, 1), ListedColormap(seen)), cax=axes, orientation="horizontal")
    axes.set_title(words, loc="left", fontsize=style.small(), color=QUIET, pad=3)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(labelsize=style.small(), colors=QUIET, length=2)
    axes.set_box_aspect(0.09 / (0.6 * width))  # a thin strip
    axes.set_anchor("W")
    axes.spines[:].set_visible(False)


def with_words(picture: np.ndarray, words: Sequence[str], size: int) -> Image.Image:
    """Return a picture with a band of text below it, wrapped to its width.

    Args:
        picture: uint8, H x W x 3.
        words: Statements, each on lines of its own.
        size: Size of the letters, in pixels.
    """
    font = ImageFont.truetype(_font_file(), size)
    height, width = picture.shape[:2]
    lines = [line for word in words for line in _broken(word, font, width - 8)]
    leading = round(1.3 * size)
    canvas = Image.new("RGB", (width, height + leading * len(lines) + size // 2))
    canvas.paste(Image.fromarray(picture))
    draw = ImageDraw.Draw(canvas)
    for row, line in enumerate(lines):
        draw.text((4, height + size // 4 + row * leading), line, fill="white", font=font)
    return canvas


def letters(picture: np.ndarray) -> int:
    """Return the size, in pixels, of letters that stay legible when the picture (H x W x 3) fills a screen."""
    return max(12, picture.shape[1] // 32)


def _font_file() -> str:
    """Return the file of the font that comes with matplotlib."""
    return str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _broken(words: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break words into lines of at most `width` pixels; cut a single word that is longer."""
    lines, line = list[str](), ""
    for word in words.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        while font.getlength(longer) > width and len(longer) > 1:
            cut = next(n for n in range(len(longer) - 1, 0, -1) if n == 1 or font.getlength(longer[:n]) <= width)
            lines.append(longer[:cut])
            longer = longer[cut:]
        line = longer
    return [*lines, line]
