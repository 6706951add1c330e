import pytest

from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.reporting import uncertainty_figures
from koa_lightning.reporting.saving import save
from tests.fixtures.figure_checks import PRINTED, faults


@pytest.fixture(params=["fitted", "not fitted"])
def found(request, computed):
    """What an evaluation measured, of a checkpoint with a calibration and of one without."""
    if request.param == "fitted":
        return computed
    calibration = {**computed["calibration"], "method": "none", "left_out": "not requested"}
    return {**computed, "calibration": {key: value for key, value in calibration.items() if key != "measured"}}


def words_of(figure):
    axes = [text for panel in figure.axes for text in (panel.title, *panel.texts)]
    axes += [legend.get_title() for legend in figure.legends]
    return " ".join(text.get_text() for text in (*figure.texts, *axes))


@pytest.mark.sample(2)
@pytest.mark.parametrize("printed", PRINTED)
def test_figures(found, tmp_path, printed):
    kinds = {
        "calibration": uncertainty_figures.reliability_figure,
        "abstention": uncertainty_figures.risk_coverage_figure,
    }
    for key, draw in kinds.items():
        with using(printed):
            figure = draw(found[key], "a part", ["phantom data"])
            words = " ".join(text.get_text() for text in figure.texts)
            assert "phantom data" in words and "research use only" in words
            assert faults(figure) == []
            assert save(figure, tmp_path / key)[0].stat().st_size > 5_000


def test_a_second_column_only_where_something_was_fitted(found):
    figure = uncertainty_figures.reliability_figure(found["calibration"], "a part")
    fitted = found["calibration"]["method"] != "none"
    assert len(figure.axes) == (8 if fitted else 4)
    words = words_of(figure)
    assert ("temperature calibration" in words, "not calibrated" in words) == (fitted, not fitted)
    assert ("not requested" in words) == (not fitted)
    assert ("ECE 0.030" in words) == fitted  # after; before it was 0.080
    assert "ECE 0.080" in words


def test_in_two_columns_the_diagrams_are_no_higher_than_a_page(found):
    with using(FigureSettings(width=174.0)):
        assert faults(uncertainty_figures.reliability_figure(found["calibration"], "a part")) == []


def test_bins_without_knees_have_no_dot(computed):
    empty = {"low": 0.0, "high": 0.1, "n": 0, "confidence": None, "share": None}
    calibration = {**computed["calibration"]}
    calibration["bins"] = {side: [empty, *bins] for side, bins in calibration["bins"].items()}
    panel = uncertainty_figures.reliability_figure(calibration, "a part").axes[0]
    [dots] = panel.collections
    assert dots.get_offsets().tolist() == [[0.4, 0.5], [0.8, 0.7]]
    assert dots.get_sizes().tolist() == [8 + 41 * 0.5, 8 + 41]


@pytest.mark.parametrize(
    ("change", "shown"), [({}, True), ({"threshold": 0}, False), ({"risk_at_threshold": None}, False)]
)
def test_the_threshold_is_drawn_where_it_leaves_knees_to_grade(change, shown, computed):
    figure = uncertainty_figures.risk_coverage_figure({**computed["abstention"], **change}, "a part")
    [axes], [legend] = figure.axes, figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert "random order" in labels
    assert ("threshold 0.60: 80% graded, 22.0% of them wrong" in labels) == shown
    assert axes.lines[0].get_xydata().tolist() == computed["abstention"]["curve"]


def test_a_point_at_1_is_whole_and_its_letters_are_legible_in_a_narrow_column(computed):
    calibration = {**computed["calibration"]}
    full = {"low": 0.9, "high": 1.0, "n": 9000, "confidence": 1.0, "share": 1.0}
    calibration["bins"] = {side: [full] for side in calibration["bins"]}
    with using(FigureSettings(width=75.0, font_size=7.0)):
        assert faults(uncertainty_figures.reliability_figure(calibration, "a data set, its validation split")) == []
