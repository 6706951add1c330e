"""What is said of a table of probabilities, and each line in words."""

import numpy as np
import pytest

from koa_lightning.uncertainty import summary

GRADED = {"aurc": 0.1, "best_aurc": 0.05, "risk": 0.3, "threshold": None}
SCORES = {"before": {"ece": 0.08, "log_loss": 1.2}, "after": {"ece": 0.02, "log_loss": 1.1}}
FITTED = {"method": "temperature", "parameters": {"temperature": 1.25}, "measured": "cross-fitted", **SCORES}


def test_a_table_of_probabilities_was_not_recalibrated_and_has_no_sets():
    p = np.full((6, 5), 0.1) + 0.5 * np.eye(5)[[0, 1, 2, 3, 4, 0]]
    found = summary.of_probabilities(p, np.array([0, 1, 2, 3, 4, 1]), 0.0)
    assert list(found) == ["calibration", "conformal", "abstention", "inputs"]
    reason = {"left_out": "a table of probabilities has no checkpoint"}
    assert found["conformal"] == found["inputs"] == reason
    assert reason.items() <= found["calibration"].items()
    assert (found["calibration"]["method"], found["calibration"]["parameters"]) == ("none", {})
    assert found["calibration"]["before"] == found["calibration"]["after"]
    assert found["calibration"]["n_knees"] == 6 and found["abstention"]["risk"] == pytest.approx(1 / 6)


def test_a_line_for_each_result():
    sets = {"coverage": 0.912, "target": 0.9, "mean_size": 1.444}
    graded = {**GRADED, "threshold": 0.6, "coverage_at_threshold": 0.75, "risk_at_threshold": 0.2}
    found = {"calibration": FITTED, "conformal": sets, "abstention": graded, "inputs": {"n_flagged": 3, "n_inputs": 40}}
    assert summary.in_words(found) == [
        "calibration: temperature 1.250; ece 0.080 -> 0.020, log loss 1.200 -> 1.100; cross-fitted",
        "prediction sets: coverage 91.2% (nominal 90%), 1.44 grades on average",
        "abstention: area under the risk-coverage curve 0.100 (at best 0.050; at random 0.300); "
        "25.0% are below 0.600 and referred, 20.0% of the rest are wrong",
        "out-of-distribution inputs: 3 of 40 flagged",
    ]


def test_what_is_missing_has_its_reason():
    reason = {"left_out": "no knees"}
    found = {"calibration": {**FITTED, **reason}, "conformal": reason, "abstention": GRADED, "inputs": reason}
    assert summary.in_words(found) == [
        "calibration: none (no knees); ece 0.080",
        "prediction sets: none (no knees)",
        "abstention: area under the risk-coverage curve 0.100 (at best 0.050; at random 0.300)",
        "out-of-distribution inputs: not checked (no knees)",
    ]
    graded = {**GRADED, "threshold": 0.6, "coverage_at_threshold": 0.0, "risk_at_threshold": None}
    assert summary.in_words({**found, "abstention": graded})[2].endswith(
        "100.0% are below 0.600 and referred, none is graded"
    )
