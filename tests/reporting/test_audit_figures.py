import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from koa_lightning import DISCLAIMER
from koa_lightning.config.figures import using
from koa_lightning.reporting import audit_figures
from tests.fixtures.figure_checks import PRINTED, faults


def words(figure):
    figure.draw_without_rendering()  # names of bars are set then
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def rows():
    knees = [("a", "L", "train", 0), ("a", "R", "train", 1), ("b", "L", "val", 4), ("", "", "", -1)]
    return pd.DataFrame(knees, columns=["patient", "side", "split", "grade"])


def test_counts_by_split_and_grade():
    shown = words(audit_figures.grades_figure({"train": [1500, 500, 0, 0, 0], "no split": [0] * 5}, ["phantom data"]))
    assert {"1,500\n75%", "500\n25%", "0\n0%", "train\n2,000 knees", "phantom data", DISCLAIMER} <= set(shown)


def test_patients_and_sides_by_split(rows):
    shown = words(audit_figures.patients_figure(rows))
    assert {"two knees", "one knee", "L", "R", "unknown", "train", "val", "no split", DISCLAIMER} <= set(shown)
    assert "more" not in shown


def test_measures_of_splits_with_one_knee_or_one_value(rows):
    statistics = pd.DataFrame({"brightness": [100.0, 120.0, 90.0, 90.0], "sharpness": [5.0, 5.0, 5.0, 5.0]})
    shown = words(audit_figures.statistics_figure(rows, statistics, ["phantom data"]))
    assert {"train (2)", "val (1)", "no split (1)", "phantom data", "Sharpness by grade"} <= set(shown)
    audit_figures.statistics_figure(rows.assign(grade=-1), statistics)


@pytest.mark.sample(1)
@pytest.mark.parametrize("printed", PRINTED)
def test_they_are_fit_for_print(rows, printed):
    rng = np.random.default_rng(0)
    many = pd.concat([rows] * 40, ignore_index=True)
    statistics = pd.DataFrame({"brightness": rng.normal(100, 9, len(many)), "sharpness": rng.gamma(3, 9, len(many))})
    counts = {"train": [2286, 1046, 1516, 757, 173], "auto_test": [604, 275, 403, 200, 44], "no split": [0] * 5}
    with using(printed):
        for figure in (
            audit_figures.grades_figure(counts, ["phantom data"]),
            audit_figures.patients_figure(many, ["phantom data"]),
            audit_figures.statistics_figure(many, statistics, ["phantom data"]),
        ):
            assert faults(figure) == []
