import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.explain.verdict import FAILED, PASSED, UNKNOWN, against_controls, mean_interval, resampled

TWENTY = [f"p{n // 2}" for n in range(40)]


def test_both_knees_of_a_patient_are_drawn_together():
    draws, number = resampled(TWENTY)
    assert draws.shape == (2000, 20)
    assert (draws.sum(1) == 20).all()
    assert (np.bincount(number) == 2).all()
    assert number[0] == number[1]


def test_knees_without_a_patient_count_for_themselves():
    assert resampled(["", "", "a", "a"])[0].shape[1] == 3


def test_the_interval_of_a_mean_is_that_of_patients_not_of_knees():
    rng = np.random.default_rng(0)
    twins = np.repeat(rng.normal(size=200), 2)  # two knees that tell the same
    patients = [f"p{n // 2}" for n in range(400)]
    found = mean_interval(twins, patients)
    width = found["high"] - found["low"]
    assert width == pytest.approx(2 * 1.96 * twins.std() / np.sqrt(200), rel=0.1)
    alone = mean_interval(twins, [""] * 400)
    assert alone["high"] - alone["low"] == pytest.approx(width / np.sqrt(2), rel=0.1)
    assert found["value"] == pytest.approx(twins.mean())
    assert (found["n"], found["n_patients"]) == (400, 200)
    assert mean_interval(twins, patients) == found


@given(st.lists(st.floats(-5, 5), min_size=10, max_size=40))
def test_the_mean_lies_in_its_interval(values):
    found = mean_interval(np.array(values), [str(n) for n in range(len(values))])
    assert found["low"] - 1e-9 <= found["value"] <= found["high"] + 1e-9


def test_knees_without_a_number_are_omitted():
    values = np.array([1.0, np.nan] * 20)
    found = mean_interval(values, [str(n) for n in range(40)])
    assert (found["value"], found["n"], found["n_patients"]) == (1.0, 20, 20)
    assert mean_interval(np.full(3, np.nan), ["a", "b", "c"])["value"] is None


def test_too_few_patients_for_an_interval():
    found = mean_interval(np.arange(9.0), [str(n) for n in range(9)])
    assert (found["value"], found["low"]) == (4.0, None)
    test = against_controls(np.ones(4), {"random": np.zeros(4)}, list("abcd"), more_is_better=True)
    assert (test["verdict"], test["difference"], test["low"]) == (UNKNOWN, 1.0, None)


@pytest.mark.parametrize("more_is_better", [True, False])
def test_both_controls_must_be_beaten(more_is_better):
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=0.1, size=(3, 40))
    sign = 1 if more_is_better else -1
    good, bad = sign + noise[0], noise[1]
    better = against_controls(good, {"random": bad, "centre": bad + 0.1}, TWENTY, more_is_better=more_is_better)
    assert better["verdict"] == PASSED
    assert better["difference"] > 0.8
    assert better["against"] == ("centre" if more_is_better else "random")
    assert better["map"] == pytest.approx(good.mean())
    equal = against_controls(good, {"random": bad, "centre": good + noise[2]}, TWENTY, more_is_better=more_is_better)
    assert (equal["verdict"], equal["against"]) == (FAILED, "centre")
    worse = against_controls(bad, {"random": good, "centre": good}, TWENTY, more_is_better=more_is_better)
    assert worse["verdict"] == FAILED
    assert worse["high"] < 0


def test_where_no_knee_has_a_number_nothing_is_judged():
    none = np.full(5, np.nan)
    test = against_controls(none, {"random": none, "centre": none}, list("abcde"), more_is_better=True)
    assert (test["verdict"], test["map"], test["n"]) == (UNKNOWN, None, 0)
