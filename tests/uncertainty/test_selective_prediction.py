import numpy as np
import pytest
from sklearn.metrics import auc

from koa_lightning.errors import InputError
from koa_lightning.uncertainty import selective_prediction


def test_by_hand():
    confidence, is_wrong = np.array([0.9, 0.5, 0.8, 0.6]), np.array([False, True, True, False])
    risk = selective_prediction.risks(confidence, is_wrong)
    assert np.allclose(risk, [0, 1 / 2, 1 / 3, 2 / 4])
    assert selective_prediction.aurc(risk) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert selective_prediction.best_aurc(risk) == pytest.approx((0 + 0 + 1 / 3 + 2 / 4) / 4)
    assert selective_prediction.curve(confidence, is_wrong) == [
        (0.9, 0.25, 0.0),
        (0.8, 0.5, 0.5),
        (0.6, 0.75, 1 / 3),
        (0.5, 1.0, 0.5),
    ]


def test_equal_confidences_come_in_no_order():
    is_wrong = np.array([True, False, False, True])
    for order in (slice(None), slice(None, None, -1)):
        assert np.allclose(selective_prediction.risks(np.full(4, 0.7), is_wrong[order]), 0.5)
    assert selective_prediction.curve(np.full(4, 0.7), is_wrong) == [(0.7, 1.0, 0.5)]


def test_the_area_is_that_under_the_curve():
    rng = np.random.default_rng(0)
    confidence = rng.random(5000)
    is_wrong = rng.random(5000) > confidence
    risk = selective_prediction.risks(confidence, is_wrong)
    assert selective_prediction.aurc(risk) == pytest.approx(auc(np.arange(1, 5001) / 5000, risk), abs=1e-3)
    assert selective_prediction.best_aurc(risk) < selective_prediction.aurc(risk) < risk[-1]
    assert selective_prediction.aurc(selective_prediction.risks(rng.random(5000), is_wrong)) == pytest.approx(
        risk[-1], abs=0.03
    )


def test_a_threshold_for_a_risk():
    rng = np.random.default_rng(1)
    confidence = rng.random(2000)
    is_wrong = rng.random(2000) > confidence
    entry = selective_prediction.fit(confidence, is_wrong)
    assert len(entry.curve) == selective_prediction.ROWS
    assert selective_prediction.SelectivePrediction.wrong(entry.to_plain()) == ""
    threshold = selective_prediction.threshold_for(entry, 0.2)
    graded = confidence >= threshold
    assert is_wrong[graded].mean() <= 0.2
    assert graded.mean() == pytest.approx(0.4, abs=0.06)
    assert selective_prediction.threshold_for(entry, 1.0) == pytest.approx(confidence.min())
    with pytest.raises(InputError, match=r"refer_risk=0\.1: no threshold gave that on the validation part"):
        selective_prediction.threshold_for(selective_prediction.fit(confidence, np.ones(2000, bool)), 0.1)


ROW = [0.5, 0.5, 0.5]


@pytest.mark.parametrize("curve", [None, [], [ROW[:2]], [[0.5, 0.5, "x"]], [[0.5, 0.5, 2.0]], [ROW] * 101])
def test_an_entry_that_is_not_ours(curve):
    assert "wanted" in selective_prediction.SelectivePrediction.wrong({"curve": curve})
