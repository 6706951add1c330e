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
        (np.minimum(GRADES + 1, 4), "no better"),  # off by one, but for grade 4
        (np.where(GRADES < 2, GRADES, 2), ""),
    ],
)
def test_what_one_grade_for_all_reaches_too(predicted, line):
    if line == "no better":  # few are right, but the errors are small: that is better
        assert (predicted == GRADES).mean() < 0.386
        line = ""
    assert no_better(GRADES, predicted) == line


def test_one_grade_alone():
    assert no_better(np.full(3, 2), np.full(3, 2)) == "no better than always grade 2 (accuracy 1.000)"
    assert no_better(np.array([], int), np.array([], int)) == ""
