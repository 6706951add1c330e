"""How figures look: widths, fonts and colours, by the current settings. Research use only, not a medical device.

A figure is laid out at the width at which it is printed, so 7-point text is 7 points on paper.
"""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import seaborn as sns
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from koa_lightning.config.figures import OWN_FONT, SMALLEST_FONT, current

P = ParamSpec("P")
T = TypeVar("T")
INK, QUIET, PALE = "#22282f", "#5f6973", "#cfd8de"
GRID = {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
"""Line styles, so that no curve is identified by colour alone."""


@dataclass(frozen=True)
class Palette:
    """Colours by their role.

    Attributes:
        main: The subject of the figure.
        second: What it is compared with.
        caveat: Caveats and mistakes.
        good: Passed tests.
        series: Six colours that are distinct for every kind of colour vision.
    """

    main: str
    second: str
    caveat: str
    good: str
    series: tuple[str, ...]

    @property
    def grades(self) -> tuple[str, ...]:
        """Colours of the five grades, whose curves also differ in their dashes."""
        return self.series[:5]

    @property
    def shades(self) -> Colormap:
        """Colour map from white to the main colour."""
        shades: Colormap = sns.light_palette(self.main, as_cmap=True)
        return shades


# Okabe and Ito 2008; Tol 2021, "bright" without its yellow, which vanishes on white.
_PALETTES = {
    "okabe_ito": Palette(
        "#0072B2", "#D55E00", "#b3261e", "#00734f", ("#56B4E9", "#0072B2", "#009E73", "#E69F00", "#D55E00", "#6d3a5d")
    ),
    "tol": Palette(
        "#4477AA", "#EE6677", "#a81c3a", "#1d6b2a", ("#66CCEE", "#4477AA", "#228833", "#CCBB44", "#EE6677", "#661144")
    ),
    "gray": Palette("#30363c", "#8f979e", "#000000", "#30363c",
                    ("#b8bdc1", "#90979d", "#666d73", "#42484e", "#15181a", "#7a8086")),
}  # fmt: skip


def palette() -> Palette:
    """Return the current colours."""
    return _PALETTES[current().palette]


def body() -> float:
    """Return the font size of labels, in points."""
    return current().font_size


def small() -> float:
    """Return the smallest font size, in points."""
    return max(SMALLEST_FONT, current().font_size - 1)


def large() -> float:
    """Return the font size of a figure's title, in points."""
    return current().font_size + 1.5


def settings() -> dict[Any, Any]:
    """Return matplotlib's settings for drawing and saving figures."""
    return {
        "font.family": ["sans-serif"],
        "font.sans-serif": list(dict.fromkeys([current().font, OWN_FONT])),
        "font.size": body(),
        "axes.titlesize": body() + 0.5,
        "axes.labelsize": body(),
        "xtick.labelsize": small(),
        "ytick.labelsize": small(),
        "legend.fontsize": small(),
        "legend.title_fontsize": small(),
        "legend.frameon": False,
        "figure.titlesize": large(),
        "axes.linewidth": 0.8,
        "xtick.major.width": 0.8,
        "ytick.major.width": 0.8,
        "text.parse_math": False,
        "svg.fonttype": "none",  # text stays text
        "pdf.fonttype": 42,
        "svg.hashsalt": "koa-lightning",
        "savefig.dpi": current().dpi,
    }


@contextmanager
def in_force() -> Iterator[None]:
    """Apply `settings` to matplotlib within a block."""
    with rc_context(settings()):
        yield


def drawn(make: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function that makes a figure, so that it uses the current settings."""

    @functools.wraps(make)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with in_force():
            return make(*args, **kwargs)

    return call


def inches(wanted: float) -> float:
    """Return the width of a figure in inches, see `FigureSettings.inches`."""
    return current().inches(wanted)


def columns(width: float, least: float, most: int) -> int:
    """Return how many panels fit side by side.

    Args:
        width: Inches of the figure.
        least: Inches that a panel needs.
        most: Maximum number of panels side by side.
    """
    return max(1, min(most, int(width / least)))


def wrap(words: str, width: float, size: float, bold: bool = False) -> str:
    """Break words into lines that fit.

    Args:
        words: Text; its line breaks are kept.
        width: Inches.
        size: Points.
        bold: Whether the text is bold, which makes it wider.
    """
    letters = max(8, int(width * 72 / (size * (0.64 if bold else 0.56))))
    return "\n".join(textwrap.fill(line, letters) for line in words.split("\n"))


def panel_title(axes: Axes, words: str, width: float, pad: float = 5) -> None:
    """Write the title of a panel, wrapped to `width` inches."""
    wrapped = wrap(words, width, body() + 0.5, bold=True)
    axes.set_title(wrapped, loc="left", fontweight="bold", color=INK, pad=pad)


def figure_title(figure: Figure, words: str) -> None:
    """Write the title of a figure of several panels."""
    wrapped = wrap(words, figure.get_figwidth() - 0.2, large(), bold=True)
    x = 0.08 / figure.get_figwidth()
    figure.suptitle(wrapped, x=x, ha="left", fontsize=large(), fontweight="bold", color=INK)


def legend_below(figure: Figure, handles: Sequence[Artist], title: str = "") -> Legend | None:
    """Write one legend for a figure below its panels, where it covers no data.

    Args:
        figure: Laid out by `constrained`.
        handles: Artists with labels; a label that begins with `_` is omitted.
        title: Title of the legend; shown alone if there are no handles.
    """
    shown = [each for each in handles if each.get_label() and not str(each.get_label()).startswith("_")]
    if not shown:
        return (
            figure.legend([], [], loc="lower left", title=title, alignment="left", borderaxespad=0.2) if title else None
        )
    room = figure.get_figwidth() - 0.3
    longest = max(len(line) for each in shown for line in str(each.get_label()).split("\n"))
    letter = small() * 0.56 / 72
    columns_ = max(1, min(len(shown), int(room / (longest * letter + 0.52))))
    labels = [wrap(str(each.get_label()), room - 0.45, small()) for each in shown]
    return figure.legend(
        shown, labels, loc="lower left", ncols=columns_, columnspacing=1.2, handlelength=1.9, title=title or None,
        alignment="left", borderaxespad=0.2, labelspacing=0.35,
    )  # fmt: skip
