from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import auc

from koa_lightning.checkpoint.fitted import Fitted, SelectivePrediction
from koa_lightning.errors import InputError
from koa_lightning.evaluation import referral
from koa_lightning.uncertainty import selective_prediction, summary


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
    with pytest.raises(InputError, match=r"refer_risk=0\.1: no threshold reaches it on the validation split"):
        selective_prediction.threshold_for(selective_prediction.fit(confidence, np.ones(2000, bool)), 0.1)


ROW = [0.5, 0.5, 0.5]


@pytest.mark.parametrize("curve", [None, [], [ROW[:2]], [[0.5, 0.5, "x"]], [[0.5, 0.5, 2.0]], [ROW] * 101])
def test_an_entry_that_is_not_ours(curve):
    assert "must" in SelectivePrediction.wrong({"curve": curve})


def test_a_knee_at_the_threshold_itself_is_graded_in_eval_and_predict_alike():
    """What is less probable is referred: the share that eval states is that of the knees that predict grades."""
    p = np.array([[0.75, 0.25, 0, 0, 0], [0.25, 0.75, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [1, 0, 0, 0, 0]], np.float32)
    grade = np.array([0, 0, 0, 0])
    for refer_below, referred in ((0.75, [2]), (0.5, []), (1.0, [0, 1, 2])):
        stated = summary.of_probabilities(p, grade, refer_below)["abstention"]
        assert stated["coverage_at_threshold"] == 1 - len(referred) / 4
        read = SimpleNamespace(record=SimpleNamespace(fitted=Fitted()), reference={})
        shown = referral.columns(read, torch.from_numpy(p).log(), p, None, alpha=0.1, refer_below=refer_below)
        assert [row for row, advice in enumerate(shown["refer"]) if advice] == referred
        warned = referral.warnings(Fitted(), shown, refer_below)
        assert any(f"{len(referred)} of 4 grades are less probable" in line for line in warned) == bool(referred)
    assert summary.of_probabilities(p, grade, 0.75)["abstention"]["risk_at_threshold"] == pytest.approx(1 / 3)
    assert summary.of_probabilities(p[:3], grade[:3], 0.76)["abstention"]["risk_at_threshold"] is None


def test_a_risk_that_is_reached_exactly_is_reached():
    entry = SelectivePrediction(curve=((0.9, 0.25, 0.0), (0.8, 0.5, 0.25), (0.5, 1.0, 0.5)))
    assert selective_prediction.threshold_for(entry, 0.25) == 0.8
    assert selective_prediction.threshold_for(entry, 0.24) == 0.9
    assert selective_prediction.threshold_for(entry, 0.0) == 0.9


@pytest.mark.parametrize(("row", "ours"), [([0.0, 0.0, 0.0], True), ([1.001] * 3, True), ([1.002, 0.5, 0.5], False),
                                           ([-0.001, 0.5, 0.5], False), ([1, 0.5, 0.5], False)])  # fmt: skip
def test_the_ends_of_what_an_entry_may_hold(row, ours):
    assert (SelectivePrediction.wrong({"curve": [row]}) == "") == ours
    assert SelectivePrediction.wrong({"curve": [ROW] * 100}) == ""
