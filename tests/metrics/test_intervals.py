import json
import math

import numpy as np
import pandas as pd
import pytest

from koa_lightning.errors import InputError
from koa_lightning.metrics import intervals as iv
from koa_lightning.metrics import resampling, weighted
from koa_lightning.metrics.graded import of_table
from koa_lightning.metrics.intervals import Interval, with_intervals

PROBABILITIES = [f"p{grade}" for grade in range(5)]


def test_every_metric_has_a_value_inside_its_interval(graded_table):
    found = with_intervals(graded_table(300, sharpness=2), n_resamples=300, thresholds=[0.5, 1.5, 2.5, 3.5])
    assert list(found) == weighted.names()
    for name, each in found.items():
        assert each.note == "", name
        assert each.low <= each.value <= each.high, name
        assert each.low < each.high, name
    assert found["accuracy_tuned"] == found["accuracy_expected"]


def test_the_interval_is_that_of_patients_drawn_by_hand(graded_table):
    """The same patients drawn, their rows put together, and the plain metric of each such table."""
    table = graded_table(30)
    graded = of_table(table)
    rng = np.random.default_rng(5)
    values = []
    for _ in range(200):
        drawn = rng.integers(30, size=(1, 30))[0]
        rows = np.concatenate([np.flatnonzero(graded.patient == patient) for patient in drawn])
        values.append((graded.argmax[rows] == graded.grade[rows]).mean())
    found = with_intervals(table, n_resamples=200, seed=5, level=0.9)["accuracy"]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])))


def test_both_knees_of_a_patient_are_drawn_together(graded_table):
    """Of patients whose knees are one and the same, the interval is wider by the root of two."""
    table = graded_table(400)
    twins = pd.concat([table.iloc[::2], table.iloc[::2]])
    together = with_intervals(twins, only=("accuracy",))["accuracy"]
    apart = with_intervals(twins.assign(patient=""), only=("accuracy",))["accuracy"]
    assert together.value == apart.value
    assert (together.high - together.low) / (apart.high - apart.low) == pytest.approx(math.sqrt(2), rel=0.08)


def test_the_same_seed_gives_the_same_whatever_the_block_and_the_order(graded_table, monkeypatch):
    table = graded_table()
    first = with_intervals(table, n_resamples=100)
    assert with_intervals(table.sample(frac=1, random_state=0), n_resamples=100) == pytest.approx(first)
    assert with_intervals(table, n_resamples=100, seed=1) != first
    monkeypatch.setattr(resampling, "_CELLS", 1000)
    assert with_intervals(table, n_resamples=100) == first


def test_a_higher_level_is_wider(graded_table):
    table = graded_table()
    wide, narrow = (with_intervals(table, n_resamples=300, level=level)["mae"] for level in (0.99, 0.8))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_a_grade_missing_from_the_truth_is_said(graded_table):
    table = graded_table(100)
    found = with_intervals(table[table["grade"] != 4], n_resamples=100)
    for name in ("f1_4", "recall_4", "precision_4", "f1_4_expected"):
        assert found[name] == Interval(None, None, None, "no knee of true grade 4")
    assert found["f1_macro"].value is not None and "no knee of true grade 4" in found["f1_macro"].note
    assert found["accuracy"].note == ""


def test_what_is_never_predicted_and_one_class_are_said(graded_table):
    table = graded_table(100)
    table[PROBABILITIES] = np.eye(5)[np.minimum(table["predicted"], 1)]
    found = with_intervals(table, n_resamples=100)
    assert found["precision_3"].note == "grade 3 is never predicted"
    assert found["f1_3"].value == 0
    below = with_intervals(table[table["grade"] < 2], n_resamples=100)
    assert below["auroc_oa"] == Interval(None, None, None, "all knees are below grade 2: nothing to distinguish")
    above = with_intervals(table[table["grade"] >= 3], n_resamples=100)
    assert above["ap_ge3"].note == "all knees are at or above grade 3: nothing to distinguish"
    one = table[table["grade"] == 0].assign(p0=1.0, p1=0.0, p2=0.0, p3=0.0, p4=0.0)
    assert with_intervals(one, n_resamples=100)["linear_kappa"].note == (
        "reference and prediction are the same single grade"
    )


def test_a_grade_of_few_patients_has_no_interval_or_a_word(graded_table):
    table = graded_table(60)
    table["grade"] = table["grade"].where(table["grade"] < 4, 3)
    table.loc[0, "grade"] = 4
    found = with_intervals(table, n_resamples=500)
    assert found["recall_4"].value is not None and found["recall_4"].low is None
    assert "undefined in" in found["recall_4"].note
    table.loc[2 * np.arange(1, 5), "grade"] = 4
    table.loc[[0, 2], PROBABILITIES] = [0.0, 0, 0, 0, 1]
    few = with_intervals(table, n_resamples=500)["recall_4"]
    assert few.low is not None and "resamples, which are omitted" in few.note
    table.loc[2 * np.arange(5), PROBABILITIES] = [1.0, 0, 0, 0, 0]
    never = with_intervals(table, n_resamples=500)["recall_4"]
    assert never == Interval(0, None, None, "no interval: the value is the same in all resamples")


@pytest.mark.parametrize("n_knees", [1, 2])
def test_one_patient_has_no_interval(graded_table, n_knees):
    found = with_intervals(graded_table(1).head(n_knees), n_resamples=100)
    assert found["accuracy"].low is None and found["accuracy"].note == "only one patient: no interval"
    for each in found.values():
        assert each.value is not None or each.note
        assert each.value is None or math.isfinite(each.value)


def test_few_patients_are_said(graded_table):
    assert "8 patients" in with_intervals(graded_table(8), n_resamples=100)["accuracy"].note


def test_knees_of_unknown_grade_are_omitted(graded_table):
    table = graded_table(40)
    expected = with_intervals(table.iloc[:60], n_resamples=100)
    table.loc[60:, "grade"] = pd.NA
    assert with_intervals(table, n_resamples=100) == expected
    with pytest.raises(InputError, match="no labelled knee"):
        with_intervals(table.iloc[60:])


def test_calibration_errors_are_corrected_for_their_bias():
    """Of a calibrated model the error of a finite sample is above 0, and its resamples are further above."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(5), 600)
    grade = (p.cumsum(1) < rng.random((600, 1))).sum(1)
    table = pd.DataFrame(p, columns=PROBABILITIES).assign(grade=grade)
    found = with_intervals(table, n_resamples=500, only=("ece", "ece_classwise"))
    for each in found.values():
        assert each.low == 0 < each.value <= each.high
    sharper = p**3 / (p**3).sum(1, keepdims=True)
    table[PROBABILITIES] = sharper
    for each in with_intervals(table, n_resamples=500, only=("ece", "ece_classwise")).values():
        assert 0 < each.low < each.value <= each.high


def test_json_holds_no_nan(graded_table):
    table = graded_table(60)
    found = iv.to_json(with_intervals(table[table["grade"] < 2], n_resamples=100))
    read = json.loads(json.dumps(found, allow_nan=False))
    assert read == found
    assert set(read["accuracy"]) == {"value", "low", "high"}
    assert read["auroc_oa"]["value"] is None and read["auroc_oa"]["note"]


@pytest.mark.parametrize(("n", "says"), [(19, True), (20, False)])
def test_from_how_many_patients_on_an_interval_needs_no_word(n, says, graded_table):
    note = with_intervals(graded_table(n), n_resamples=20, only=("accuracy",))["accuracy"].note
    assert (f"only {n} patients: the interval is too narrow" in note) == says


@pytest.mark.parametrize(("undefined", "has"), [(5, True), (6, False)])
def test_how_many_resamples_may_be_undefined(undefined, has, graded_table):
    measure = weighted.WeightedMetrics(of_table(graded_table(30)), only=("accuracy",))
    samples = np.linspace(0.4, 0.6, 100)
    samples[:undefined] = np.nan
    found = iv._interval("accuracy", 0.5, samples, measure, 0.95)
    assert (found.low is not None, f"undefined in {undefined} of 100 resamples" in found.note) == (has, True)


def test_an_error_as_large_as_chance_gives_may_be_none():
    noise = np.linspace(0.0, 1.0, 101)
    samples = np.linspace(0.9, 1.1, 101)
    at = iv.ends(noise, 0.9)[1]
    assert iv._corrected(Interval(at, 0.9, 1.1, ""), samples, noise, 0.9).low == 0.0
    assert iv._corrected(Interval(at + 0.01, 0.9, 1.1, ""), samples, noise, 0.9).low > 0.0
