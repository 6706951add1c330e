import numpy as np
import pytest
from PIL import Image

from koa_lightning.reporting.figures import DISCLAIMER
from koa_lightning.reporting.report import figures

CURVE = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.8, 1.0]), 0.65)


def axes_of(figure):
    [axes] = figure.axes
    return axes


def legend_of(figure):
    return [text.get_text() for text in axes_of(figure).get_legend().get_texts()]


def test_the_curves_are_those_of_the_grades():
    figure = figures.roc_figure({0: CURVE, 4: CURVE}, ["phantom data"])
    assert legend_of(figure) == ["0 none: 0.650", "4 severe: 0.650"]
    colours = [line.get_color() for line in axes_of(figure).lines[1:]]
    assert colours == [figures.GRADE_COLOURS[0], figures.GRADE_COLOURS[4]]
    assert axes_of(figure).lines[2].get_xydata().tolist() == [[0, 0], [0.5, 0.8], [1, 1]]
    assert {"phantom data", DISCLAIMER} <= {text.get_text() for text in figure.texts}


def test_chance_is_marked_at_the_share_of_the_grade():
    axes = axes_of(figures.precision_recall_figure({2: CURVE}, {2: 0.3}))
    assert axes.lines[1].get_xydata().tolist() == [[0.96, 0.3], [1.01, 0.3]]


def test_a_forest_leaves_out_what_is_unknown():
    rows = [("a", {"value": 0.5, "low": 0.4, "high": 0.6}), ("b", {"value": 0.2, "low": None}), ("c", {"value": None})]
    axes = axes_of(figures.forest_figure(rows, "t", "x", reference=0.45))
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn == [[[0.4, 0], [0.6, 0]], [[0.5, 0]], [[0.2, 1]], [[0.45, 0], [0.45, 1]]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_ylim() == (2.5, -0.5)  # the first at the top
    assert len(axes_of(figures.forest_figure(rows, "t", "x")).lines) == 3


def test_a_grade_without_knees_has_no_bar(computed):
    by_grade = {**computed["conformal"]["by_grade"], "3": {"n": 0, "coverage": None, "size": None}}
    axes = axes_of(figures.coverage_figure({**computed["conformal"], "by_grade": by_grade}))
    assert [round(bar.get_x() + bar.get_width() / 2) for bar in axes.patches] == [0, 1, 2, 4]
    assert [line.get_ydata()[0] for line in axes.lines] == [pytest.approx(0.9), 0.917]


def test_answers_of_the_map_and_of_its_controls(computed):
    test = computed["explanations"]["faithfulness"]["deletion"]
    assert legend_of(figures.answers_figure(test, "t")) == [
        "this method: area 0.300", "random maps: area 0.400", "centre-prior maps: area 0.350",
    ]  # fmt: skip
    alone = {"curve": {"map": [1.0, 0.0]}, "map": None}
    figure = figures.answers_figure(alone, "t")
    assert legend_of(figure) == ["this method"]
    assert axes_of(figure).lines[0].get_xydata().tolist() == [[0, 1], [1, 0]]


def test_the_same_figure_gives_the_same_files(tmp_path):
    def written(name):
        content = figures.save_both(figures.roc_figure({1: CURVE}), tmp_path / name, "roc")
        return content, (tmp_path / name / "roc.svg").read_bytes(), (tmp_path / name / "roc.png").read_bytes()

    one = written("a")
    assert one == written("b")
    assert one[0] == one[1]
    assert b"<text" not in one[0]  # letters are paths
    with Image.open(tmp_path / "a" / "roc.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50
