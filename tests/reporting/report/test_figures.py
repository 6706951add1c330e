import numpy as np
import pytest
from PIL import Image

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.reporting import style
from koa_lightning.reporting.report import figures
from tests.fixtures.figure_checks import PRINTED, faults

CURVE = (np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.8, 1.0]), 0.65)


def axes_of(figure):
    [axes] = figure.axes
    return axes


def legend_of(figure):
    [legend] = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_curves_are_those_of_the_grades():
    figure = figures.roc_figure({0: CURVE, 4: CURVE}, ["phantom data"])
    assert legend_of(figure) == ["0 none: 0.650", "4 severe: 0.650"]
    colours = [line.get_color() for line in axes_of(figure).lines[1:]]
    assert colours == [style.palette().grades[0], style.palette().grades[4]]
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
        return content, *((tmp_path / name / f"roc.{kind}").read_bytes() for kind in ("svg", "png"))

    with using(FigureSettings(formats=("svg", "png"))):
        one = written("a")
        assert one == written("b")
    assert b"<text" not in one[0]  # letters are paths, on the page
    assert b"<text" in one[1]
    with Image.open(tmp_path / "a" / "roc.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50


@pytest.mark.sample(1)
@pytest.mark.parametrize("printed", PRINTED)
def test_they_are_fit_for_print(computed, printed):
    curves = {grade: (CURVE[0], CURVE[1] ** (grade + 1), 0.9) for grade in range(5)}
    by_grade = {str(grade): {"n": 5, "coverage": [0.0, 0.9, 0.91, 1.0, None][grade]} for grade in range(5)}
    names = ["all knees", "side L (828 knees)", "site: a long name of a hospital (12 knees of 9 patients)", "none"]
    rows = [(name, {"value": 0.7, "low": 0.6, "high": 0.8}) for name in names]
    layers = [{"layer": f"blocks.{i}", "similarity": 0.1 * i, "low": 0.0, "high": 0.9} for i in range(9)]
    with using(printed):
        for figure in (
            figures.roc_figure(curves, ["phantom data"]),
            figures.precision_recall_figure(curves, dict.fromkeys(range(5), 0.2), ["phantom data"]),
            figures.forest_figure(rows, "A title of some length, by subgroup", "quadratic kappa", reference=0.7),
            figures.coverage_figure({**computed["conformal"], "by_grade": by_grade}, ["phantom data"]),
            figures.answers_figure(computed["explanations"]["faithfulness"]["deletion"], "Deletion by the heat"),
            figures.layers_figure(layers, ["phantom data"]),
        ):
            assert faults(figure) == []


def test_a_coverage_that_equals_the_nominal_one_leaves_both_lines_visible(computed):
    lines = axes_of(figures.coverage_figure({**computed["conformal"], "alpha": 0.1, "coverage": 0.9})).lines
    nominal, observed = lines
    assert (nominal.get_label(), observed.get_label()) == ("nominal coverage: 90%", "all grades: 90.0%")
    assert nominal.get_zorder() > observed.get_zorder() and nominal.is_dashed()
    assert nominal.get_linewidth() < observed.get_linewidth()


def test_a_coverage_of_0_is_said_and_so_is_a_grade_without_knees(computed):
    by_grade = {str(grade): {"n": n, "coverage": c} for grade, (n, c) in enumerate([(5, 0.0), (9, 0.9), (0, None)])}
    axes = axes_of(figures.coverage_figure({**computed["conformal"], "by_grade": by_grade}))
    assert [text.get_text() for text in axes.texts] == ["0%", "90%", "no knee"]
    assert all(text.get_color() != "white" for text in axes.texts)
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["0\nn = 5", "1\nn = 9", "2\nn = 0"]
