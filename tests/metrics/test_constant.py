import numpy as np
import pytest

from koa_lightning.metrics.constant import no_better

GRADES = np.repeat([0, 1, 2, 3, 4], [386, 200, 200, 114, 100])


@pytest.mark.parametrize(
    ("predicted", "line"),
    [
        (np.zeros(1000, int), "no better than always grade 0 (accuracy .386)"),
        (np.full(1000, 4), "no better than always grade 0 (accuracy .386)"),
        (np.random.default_rng(0).integers(0, 5, 1000), "no better than always grade 0 (accuracy .386)"),
        (GRADES, ""),
        (np.where(GRADES < 2, GRADES, 2), ""),
    ],
)
def test_what_one_grade_for_all_reaches_too(predicted, line):
    assert no_better(GRADES, predicted) == line


def test_one_grade_alone():
    assert no_better(np.full(3, 2), np.full(3, 2)) == "no better than always grade 2 (accuracy 1.000)"
    assert no_better(np.array([], int), np.array([], int)) == ""


@pytest.mark.parametrize(
    ("predicted", "is_better"),
    [
        ([0, 1, 0, 1], False),  # right as often as one grade for all, and as far off
        ([0, 1, 1, 1], True),  # right more often
        ([0, 2, 1, 0], False),
    ],
)
def test_as_good_as_one_grade_for_all_is_no_better(predicted, is_better):
    assert (no_better(np.array([0, 0, 1, 1]), np.array(predicted)) == "") == is_better


def test_right_less_often_but_less_far_off_is_better():
    predicted = np.minimum(GRADES + 1, 4)  # off by one, but for grade 4
    assert (predicted == GRADES).mean() < 0.386
    assert no_better(GRADES, predicted) == ""
    grade, predicted = np.array([0, 0, 4, 4, 0]), np.array([1, 1, 3, 3, 1])
    assert (np.abs(predicted - grade).mean(), np.abs(grade - 0).mean()) == (1.0, 1.6)
    assert no_better(grade, predicted) == ""
    assert no_better(grade[:4], np.array([1, 1, 1, 3])) == ""
    assert no_better(grade[:4], np.full(4, 2)) != ""  # as far off as any grade for all, and never right
