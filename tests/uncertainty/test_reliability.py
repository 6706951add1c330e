import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from koa_lightning.uncertainty import reliability


def test_scores_are_those_of_other_libraries(simulate):
    logits, grade, _ = simulate(150)
    p = logits.softmax(1)
    found = reliability.scores(p.numpy(), grade)
    true = torch.from_numpy(grade)
    assert found["ece"] == pytest.approx(float(multiclass_calibration_error(p, true, 5, n_bins=15)), abs=1e-6)
    exact = p.double().numpy() / p.double().numpy().sum(1, keepdims=True)
    assert found["log_loss"] == pytest.approx(log_loss(grade, exact, labels=range(5)), abs=1e-5)
    each = [brier_score_loss(grade == k, p[:, k].numpy()) for k in range(5)]
    assert found["brier"] == pytest.approx(sum(each), abs=1e-5)
    steps = [brier_score_loss(grade > k, p[:, k + 1 :].sum(1).clamp(max=1).numpy()) for k in range(4)]
    assert found["rps"] == pytest.approx(sum(steps), abs=1e-5)


def test_a_certain_grade_scores_its_absolute_error():
    assert reliability.scores(np.eye(5)[[0, 1]], np.array([0, 4]))["rps"] == pytest.approx(1.5)


def test_bins_hold_every_knee():
    confidence = np.array([0.0, 0.2, 0.21, 0.5, 1.0])
    rows = reliability.bins(confidence, np.array([False, True, False, True, True]))
    assert [row["n"] for row in rows if row["n"]] == [1, 2, 1, 1]
    assert rows[3] == {"low": 0.2, "high": 4 / 15, "n": 2, "confidence": pytest.approx(0.205), "share": 0.5}
    assert rows[1]["confidence"] is None and rows[1]["share"] is None
