import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics.grade_metrics import GradeMetrics, compute
from koa_lightning.metrics.intervals import with_intervals


def knees(seed, n=60, sharpness=1.0):
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 5)) + sharpness * np.eye(5)[grade]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities.astype(np.float32), grade


def ece_by_hand(probabilities, grade):
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == grade
    error = 0.0
    for lower in range(15):
        inside = (confidence >= lower / 15) & (confidence < (lower + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    return error


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 80))
def test_equal_to_scikit_learn(seed, n):
    probabilities, grade = knees(seed, n)
    values = compute(probabilities, grade)
    assert list(values) == chosen("every_epoch")
    expected_grade = np.floor((probabilities * np.arange(5)).sum(1) + 0.5).astype(int)
    median = (probabilities.astype(np.float64).cumsum(1) >= 0.5 - 1e-6).argmax(1)
    by_rule = (("", probabilities.argmax(1)), ("_expected", expected_grade), ("_median", median))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for suffix, predicted in by_rule:
            both = {"y_true": grade, "y_pred": predicted}
            kappa = sk.cohen_kappa_score(grade, predicted, labels=range(5), weights="quadratic")
            assert values[f"accuracy{suffix}"] == pytest.approx(sk.accuracy_score(**both))
            assert values[f"balanced_accuracy{suffix}"] == pytest.approx(sk.balanced_accuracy_score(**both))
            assert values[f"f1_macro{suffix}"] == pytest.approx(sk.f1_score(**both, average="macro"))
            assert values[f"mae{suffix}"] == pytest.approx(sk.mean_absolute_error(**both))
            assert values[f"quadratic_kappa{suffix}"] == pytest.approx(kappa, abs=1e-6, nan_ok=True)
            f1 = sk.f1_score(**both, labels=range(5), average=None, zero_division=0)
            f1[~np.isin(range(5), grade)] = np.nan
            assert [values[f"f1_{each}{suffix}"] for each in range(5)] == pytest.approx(f1, nan_ok=True)
    oa = grade >= 2
    auroc = sk.roc_auc_score(oa, probabilities[:, 2:].sum(1)) if 0 < oa.sum() < n else np.nan
    assert values["auroc_oa"] == pytest.approx(auroc, abs=1e-5, nan_ok=True)
    assert values["ece"] == pytest.approx(ece_by_hand(probabilities, grade), abs=1e-5)


def test_a_grade_that_no_knee_has_is_undefined_as_in_the_intervals():
    probabilities, grade = knees(0, 60)
    probabilities, grade = probabilities[grade != 4], grade[grade != 4]
    assert np.isnan(compute(probabilities, grade)["f1_4"])
    table = pd.DataFrame(probabilities, columns=[f"p{each}" for each in range(5)]).assign(grade=grade)
    intervals = with_intervals(table, n_resamples=100)
    values = compute(probabilities, grade)
    undefined = {name for name, value in values.items() if np.isnan(value)}
    assert undefined == {name for name in values if intervals[name].value is None} >= {"f1_4", "f1_4_expected"}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 59), max_size=4, unique=True))
def test_batches_are_one_go(seed, cuts):
    probabilities, grade = knees(seed)
    metrics = GradeMetrics()
    for batch in np.split(np.arange(60), sorted(cuts)):
        metrics.update(torch.tensor(probabilities[batch]), torch.tensor(grade[batch]))
    in_batches = {name: value.item() for name, value in metrics.compute().items()}
    assert in_batches == pytest.approx(compute(probabilities, grade), abs=1e-6, nan_ok=True)


def test_by_hand():
    probabilities = np.array([[0.5, 0, 0, 0, 0.5], [0, 1, 0, 0, 0], [0.4, 0, 0, 0.6, 0], [0, 0, 0, 0, 1]])
    values = compute(probabilities, np.array([2, 1, 3, 4]))
    assert values["accuracy"] == 0.75  # the arg-max of a tie is the lower grade
    assert values["accuracy_expected"] == 0.75  # 2, 1, 1.8 -> 2, 4
    assert values["mae"] == 0.5
    assert values["mae_expected"] == 0.25
    assert values["auroc_oa"] == 1
    assert values["ece"] == pytest.approx((0.5 + 0.4 + 0) / 4)


def test_confusion_and_reset():
    probabilities, grade = knees(1)
    metrics = GradeMetrics()
    metrics.update(torch.tensor(probabilities), torch.tensor(grade))
    confusion = metrics.confusion()
    assert confusion.dtype == torch.int64
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(grade, probabilities.argmax(1), labels=range(5)))
    metrics.reset()
    metrics.update(torch.eye(5)[:1], torch.tensor([0]))
    assert metrics.confusion().sum() == 1
    assert metrics.compute()["accuracy"] == 1


@pytest.mark.parametrize("only", [0, 1, 2, 4])
def test_auroc_of_one_class_is_nan(only):
    probabilities, _ = knees(2, 6)
    assert np.isnan(compute(probabilities, np.full(6, only))["auroc_oa"])


def test_rounding_above_1_does_not_turn_probabilities_into_logits():
    probabilities, grade = (torch.tensor(each) for each in knees(3))
    probabilities[0] = torch.eye(5)[0]
    probabilities[1] = torch.tensor([0, 0, 0.5, 0.25, 0.25])
    expected = compute(probabilities.numpy(), grade.numpy())
    probabilities[0] *= 1 + 2e-7
    probabilities[1, 3] += 2e-7  # each within [0, 1], but p(grade >= 2) above 1
    metrics = GradeMetrics()
    for each in range(0, 60, 20):  # only the first batch is affected, so squashing would change the order
        metrics.update(probabilities[each : each + 20], grade[each : each + 20])
    values = {name: value.item() for name, value in metrics.compute().items()}
    assert values == pytest.approx(expected, abs=1e-6)


def test_unchecked_measures_the_same_and_takes_what_is_no_number():
    probabilities, grade = knees(4)
    metrics = GradeMetrics(checked=False)
    metrics.update(torch.tensor(probabilities), torch.tensor(grade))
    assert {name: value.item() for name, value in metrics.compute().items()} == compute(probabilities, grade)
    metrics.update(torch.full((3, 5), torch.nan), torch.tensor([0, 1, 2]))
    assert metrics.confusion().sum() == len(grade) + 3


@pytest.mark.parametrize("checked", [True, False])
def test_half_precision_with_a_graph_and_no_state_in_checkpoints(checked):
    probabilities, grade = knees(5)
    metrics = GradeMetrics(checked=checked)
    half = torch.tensor(probabilities, requires_grad=True).bfloat16()
    metrics.update(half, torch.tensor(grade))
    values = metrics.compute()
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in values.values())
    assert values["accuracy"] == (half.argmax(1) == torch.tensor(grade)).float().mean()
    assert metrics.state_dict() == {}


BAD_PROBABILITIES = {
    "logits": [[2.0, -1, 0, 0, 0]],
    "no sum of 1": [[0.2, 0.2, 0.2, 0.2, 0.0]],
    "nan": [[float("nan")] * 5],
    "four columns": [[0.25] * 4],
}


@pytest.mark.parametrize("bad", BAD_PROBABILITIES.values(), ids=BAD_PROBABILITIES)
def test_what_are_no_probabilities_is_refused(bad):
    with pytest.raises(InputError, match="probabilities"):
        compute(np.array(bad), np.array([0]))


@pytest.mark.parametrize("bad", [5, -1, 1.0])
def test_what_are_no_grades_is_refused(bad):
    with pytest.raises(InputError, match="grades"):
        compute(np.eye(5)[:1], np.array([bad]))


@pytest.mark.parametrize("checked", [True, False])
def test_no_knee_is_refused(checked):
    with pytest.raises(InputError, match="no knee"):
        GradeMetrics(checked=checked).compute()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sets(st.integers(0, 4), min_size=1), st.integers(1, 80))
def test_each_epoch_has_what_the_intervals_have_even_where_grades_are_absent(seed, present, n):
    probabilities, grade = knees(seed, n)
    grade = np.array(sorted(present))[grade % len(present)]
    table = pd.DataFrame(probabilities, columns=[f"p{each}" for each in range(5)]).assign(grade=grade)
    found = with_intervals(table, n_resamples=2)
    metrics = GradeMetrics(checked=False)
    for batch in np.array_split(np.arange(n), 3):
        metrics.update(torch.tensor(probabilities[batch]), torch.tensor(grade[batch]))
    for name, value in metrics.compute().items():
        reported = np.nan if found[name].value is None else found[name].value
        assert value.item() == pytest.approx(reported, rel=1e-6, abs=1e-7, nan_ok=True), name
