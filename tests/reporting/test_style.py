from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from koa_lightning.config.figures import PALETTES, FigureSettings, using
from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from tests.fixtures.figure_checks import faults

# Machado, Oliveira and Fernandes 2009, severity 1: what people see who lack one kind of cone, in linear RGB
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colour, kind):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(SEEN[kind]) @ linear, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one, other, kind):
    return float(np.linalg.norm(lab(one, kind) - lab(other, kind)))


def test_red_and_green_are_alike_for_some():
    assert distance("#cc5500", "#7a8a00", "deuteranopia") < 12 < 40 < distance("#cc5500", "#7a8a00", "all cones")


@pytest.mark.parametrize("kind", SEEN)
@pytest.mark.parametrize("name", PALETTES)
def test_colours_differ_for_every_kind_of_colour_vision(name, kind):
    with using(FigureSettings(palette=name)):
        own = style.palette()
    assert distance(own.main, own.second, kind) > 25
    closest = min(combinations(own.grades, 2), key=lambda pair: distance(*pair, kind))
    assert distance(*closest, kind) > 12, closest
    assert all(distance(colour, "white", kind) > 20 for colour in own.series)


def test_letters_have_at_least_7_points_whatever_the_size_of_labels():
    for size in (7.0, 7.5, 9.0, 12.0):
        with using(FigureSettings(font_size=size)):
            assert (style.small(), style.body()) == (max(7.0, size - 1), size)


def test_widths():
    assert style.inches(3.0) == 3.0
    assert style.inches(20.0) * 25.4 == pytest.approx(174)
    with using(FigureSettings(width=85.0)):
        assert style.inches(20.0) * 25.4 == style.inches(1.0) * 25.4 == pytest.approx(85)
    assert [style.columns(width, 2.0, 3) for width in (1.0, 3.9, 4.0, 100.0)] == [1, 1, 2, 3]


def test_words_are_wrapped_at_the_width_and_lines_stay():
    assert style.wrap("one two three four\nfive", 0.7, 8.0).split("\n") == ["one two", "three four", "five"]
    assert style.wrap("one two three four", 10, 8.0) == "one two three four"


def test_the_font_is_the_one_that_was_asked_for_while_a_figure_is_drawn():
    drawn = style.drawn(lambda: Figure().text(0, 0, "x").get_fontname())
    with using(FigureSettings(font="DejaVu Serif")):
        assert style.settings()["font.sans-serif"] == ["DejaVu Serif", "DejaVu Sans"]
        assert drawn() == "DejaVu Serif"
    assert drawn() == "DejaVu Sans"


@style.drawn
def bad_figure(fault):
    figure = Figure(figsize=(3, 2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o" if fault == "halved" else "-", label="a line")
    if fault == "halved":
        axes.set(xlim=(0, 1))
    elif fault == "overlap":
        figure.text(0.5, 0.5, "some words")
        figure.text(0.51, 0.5, "other words")
    elif fault == "edge":
        figure.text(0.8, 0.5, "words that are too long")
    elif fault == "legend":
        axes.legend(loc="upper right")
    elif fault == "small":
        figure.text(0.5, 0.5, "words", fontsize=5)
    elif fault == "below":
        style.legend_below(figure, [Line2D([], [], label=f"run {i}") for i in range(9)])
    stamp(figure, ["phantom data"])
    return figure


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("", None), ("below", None), ("halved", "cut by the edge of their panel"), ("overlap", "overlap"),
        ("edge", "cut at the edge of the figure"), ("legend", "the legend covers data"), ("small", "5.0 points"),
    ],
)  # fmt: skip
def test_the_checks_of_figures_find_each_fault(fault, words):
    found = faults(bad_figure(fault))
    assert (found == []) if words is None else (len(found) == 1 and words in found[0]), found
