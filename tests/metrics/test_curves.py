import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from koa_lightning.metrics import curves

knees = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60)


@given(knees)
def test_areas_are_those_of_scikit_learn(rows):
    positive, score = np.array([p for p, _ in rows]), np.array([s for _, s in rows]) / 6
    x, y, area = curves.roc(positive, score)
    recall, precision, mean = curves.precision_recall(positive, score)
    if positive.all() or not positive.any():
        assert np.isnan(area) and not len(x)
    else:
        assert area == pytest.approx(roc_auc_score(positive, score))
        assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
        assert (np.diff(x) >= 0).all() and (np.diff(y) >= 0).all()
    if positive.any():
        assert mean == pytest.approx(average_precision_score(positive, score))
        assert recall[-1] == 1 and ((precision >= 0) & (precision <= 1)).all()
    else:
        assert np.isnan(mean) and not len(recall)


def test_by_hand():
    x, y, area = curves.roc(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1]))
    assert x.tolist() == [0, 0, 0.5, 0.5, 1]
    assert y.tolist() == [0, 0.5, 0.5, 1, 1]
    assert area == 0.75


def test_long_curves_are_thinned_out_but_keep_their_ends_and_area():
    rng = np.random.default_rng(0)
    positive = rng.random(20_000) < 0.3
    score = rng.random(20_000) + 0.4 * positive
    x, y, area = curves.roc(positive, score)
    assert len(x) <= curves.MOST_POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert area == pytest.approx(roc_auc_score(positive, score))


@pytest.mark.parametrize(("n", "kept"), [(399, 399), (400, 400), (401, 400), (5000, 400)])
def test_a_curve_of_many_points_keeps_both_ends(n, kept):
    x, y = curves.thinned(np.arange(n), -np.arange(n))
    assert (len(x), x[0], x[-1], y[-1]) == (kept, 0, n - 1, 1 - n)
