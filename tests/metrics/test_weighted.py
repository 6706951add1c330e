import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from koa_lightning.metrics import weighted
from koa_lightning.metrics.grade_metrics import compute
from koa_lightning.metrics.graded import Graded, stack
from koa_lightning.metrics.weighted import RULES, WeightedMetrics, base, is_of_grade, names

THRESHOLDS = [0.7, 1.4, 2.2, 3.1]
GRADES = range(5)


def knees(seed, n=60, n_patients=25, grid=None):
    """Graded knees; with `grid`, probabilities in such steps, so that many are equal."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 5, n)
    logits = rng.normal(size=(n, 5)) + np.eye(5)[grade]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    if grid:
        p = np.round(p * grid) / grid
        p[:, 0] += 1 - p.sum(1)
        p = np.abs(p) / np.abs(p).sum(1, keepdims=True)
    return Graded(grade, p.astype(np.float32), rng.integers(0, n_patients, n), n_patients)


def values(graded, weights=None, thresholds=THRESHOLDS, **options):
    weights = np.ones((1, graded.n_patients)) if weights is None else weights
    return WeightedMetrics(graded, thresholds, **options)(weights)


def ece(confidence, hit):
    """By hand: bins of equal width that begin with their edge, weighted by their share."""
    number = np.floor(confidence.astype(np.float64) * 15 + 1e-6)
    inside = [number == each for each in np.unique(number)]
    return sum(own.mean() * abs(hit[own].mean() - confidence[own].astype(float).mean()) for own in inside)


def by_scikit_learn(graded):
    true, p = graded.grade, graded.probabilities.astype(float)
    p = p / p.sum(1, keepdims=True)
    expected = graded.probabilities @ np.arange(5)
    predicted = {"": p.argmax(1), "_expected": np.floor(expected + 0.5), "_tuned": np.digitize(expected, THRESHOLDS)}
    reached = graded.probabilities.astype(np.float64).cumsum(1) >= 0.5 - 1e-6
    predicted["_median"] = np.where(reached.any(1), reached.argmax(1), 4)
    found = {}
    for rule, grade in predicted.items():
        both = {"y_true": true, "y_pred": grade.astype(int)}
        per_grade = {"labels": list(GRADES), "average": None, "zero_division": np.nan}
        found |= {
            f"accuracy{rule}": sk.accuracy_score(**both),
            f"balanced_accuracy{rule}": sk.balanced_accuracy_score(**both),
            f"f1_macro{rule}": sk.f1_score(**both, average="macro", zero_division=0),
            f"precision_macro{rule}": sk.precision_score(**both, average="macro", zero_division=0),
            f"recall_macro{rule}": sk.recall_score(**both, average="macro", zero_division=0),
            f"quadratic_kappa{rule}": sk.cohen_kappa_score(true, grade, labels=GRADES, weights="quadratic"),
            f"linear_kappa{rule}": sk.cohen_kappa_score(true, grade, labels=GRADES, weights="linear"),
            f"mae{rule}": sk.mean_absolute_error(**both),
        }
        each = (("f1", sk.f1_score), ("precision", sk.precision_score), ("recall", sk.recall_score))
        found |= {f"{name}_{k}{rule}": v for name, f in each for k, v in enumerate(f(**both, **per_grade))}
    for name, grade in (("oa", 2), ("ge3", 3)):
        score = graded.reaches(grade)
        found[f"auroc_{name}"] = sk.roc_auc_score(true >= grade, score)
        found[f"ap_{name}"] = sk.average_precision_score(true >= grade, score)
    one_hot = np.eye(5)[true]
    found |= {
        "brier": sk.brier_score_loss(true, p, scale_by_half=False, labels=list(GRADES)),
        "log_loss": sk.log_loss(true, np.clip(p, 1e-7, 1), labels=list(GRADES)),
        "rps": np.mean([sum((p[i, : k + 1].sum() - (true[i] <= k)) ** 2 for k in range(4)) for i in range(len(p))]),
        "ece": ece(graded.probabilities.max(1), predicted[""] == true),
        "ece_classwise": np.mean([ece(graded.probabilities[:, k], one_hot[:, k]) for k in GRADES]),
    }
    return found


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(40, 90), st.sampled_from([None, 7]))
def test_every_metric_equals_scikit_learn(seed, n, grid):
    graded = knees(seed, n, grid=grid)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_scikit_learn(graded)
    found = values(graded)
    assert list(found) == names()
    assert set(found) == set(expected)
    for name, value in found.items():
        # scikit-learn has F1 of a grade that is not in the reference, which is omitted here
        other = np.nan if is_of_grade(name) and int(base(name)[-1]) not in graded.grade else expected[name]
        np.testing.assert_allclose(value, [other], atol=2e-6, equal_nan=True, err_msg=name)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([None, 6]))
def test_weights_are_repeated_rows(seed, grid):
    graded = knees(seed, 50, 20, grid)
    weights = np.random.default_rng(seed).integers(0, 4, (3, 20)).astype(float)
    weights[0, 0] += 1
    together = values(graded, weights)
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(50), weight[graded.patient].astype(int))
        repeated = Graded(graded.grade[again], graded.probabilities[again], np.arange(len(again)), len(again))
        for name, value in values(repeated).items():
            np.testing.assert_allclose(together[name][row], value[0], atol=1e-9, equal_nan=True, err_msg=name)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_they_are_what_metrics_json_holds(seed):
    graded = knees(seed)
    probabilities = graded.probabilities.copy()
    probabilities[:4] = np.eye(5)[[0, 1, 2, 2]]  # certain ones have a bin of their own
    probabilities[4] = [0.2, 0.6, 0.2, 0, 0]  # on the edges of bins
    graded = Graded(graded.grade, probabilities, graded.patient, graded.n_patients)
    found = values(graded)
    for name, value in compute(probabilities, graded.grade).items():
        assert found[name][0] == pytest.approx(value, abs=2e-6, nan_ok=True), name


def test_scores_by_hand():
    p = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=np.float32)
    found = values(Graded(np.array([2, 1]), p, np.array([0, 1]), 2))
    # 0.5, 1, 0, 0 of which 0, 0, 1, 1 should be; of a certain grade it is the distance
    assert found["rps"][0] == pytest.approx((0.25 + 1 + 0 + 0 + 3) / 2)
    assert found["brier"][0] == pytest.approx((0.25 + 0.25 + 1 + 2) / 2)
    assert found["log_loss"][0] == pytest.approx(-np.log(1e-7))  # an impossible truth costs 16, and not infinity
    assert found["ece"][0] == pytest.approx((0.5 + 1) / 2)
    assert found["ece_classwise"][0] == pytest.approx((0.5 + (0.5 + 1) + 1 + 0 + 1) / 2 / 5)
    assert found["precision_4"].tolist() == pytest.approx([np.nan], nan_ok=True)


def test_what_is_undefined_is_nan():
    p = np.eye(5, dtype=np.float32)[[0, 0, 1]]
    found = values(Graded(np.array([0, 0, 0]), p, np.arange(3), 3))
    undefined = {name for name, value in found.items() if np.isnan(value[0])}
    assert {"auroc_oa", "auroc_ge3", "ap_oa", "ap_ge3", "f1_1", "precision_1", "recall_1"} <= undefined
    assert found["recall_0"][0] == pytest.approx(2 / 3)
    above = values(Graded(np.array([4, 4, 3]), p, np.arange(3), 3))
    assert all(np.isnan(above[name][0]) for name in ("auroc_oa", "ap_oa", "auroc_ge3", "ap_ge3"))
    of_one = values(Graded(np.array([0, 0]), p[:2], np.arange(2), 2))
    assert np.isnan(of_one["quadratic_kappa"][0]) and of_one["accuracy"][0] == 1
    nobody = values(Graded(np.array([0, 3]), p[:2], np.arange(2), 2), np.zeros((1, 2)))
    assert all(np.isnan(value[0]) for value in nobody.values())


def test_only_what_is_wanted_in_one_order():
    graded = knees(0)
    found = values(graded, only=("ece", "auroc_ge3", "mae_tuned"))
    assert list(found) == ["auroc_ge3", "ece", "mae_tuned"]
    assert {name: value.tolist() for name, value in values(graded).items() if name in found} == {
        name: value.tolist() for name, value in found.items()
    }
    assert not [name for name in values(graded, thresholds=None) if name.endswith("_tuned")]


def test_confusion_of_each_rule():
    graded = knees(3)
    of_rule = WeightedMetrics(graded, THRESHOLDS)
    for rule in RULES:
        expected = sk.confusion_matrix(graded.grade, of_rule.predicted[rule], labels=GRADES)
        np.testing.assert_array_equal(of_rule.confusion(rule), expected)


def test_rounding_up_of_thresholds_is_that_of_the_expected_grade():
    graded = knees(4, 300)
    of_rule = WeightedMetrics(graded, [0.5, 1.5, 2.5, 3.5])
    np.testing.assert_array_equal(of_rule.predicted["_tuned"], of_rule.predicted["_expected"])


def test_two_models_stacked_are_each_by_itself():
    first, second = knees(5), knees(6)
    both = WeightedMetrics(stack(first, second))
    ones, none = np.ones((1, 25)), np.zeros((1, 25))
    for weights, alone in ((np.hstack([ones, none]), first), (np.hstack([none, ones]), second)):
        for name, value in values(alone, thresholds=None).items():
            np.testing.assert_allclose(both(weights)[name], value, atol=1e-12, equal_nan=True, err_msg=name)


@pytest.mark.parametrize("patients", [1, 7, 24])
def test_some_patients_at_a_time_give_the_same(monkeypatch, patients):
    graded = knees(4)
    weights = np.random.default_rng(0).integers(0, 4, (5, graded.n_patients)).astype(float)

    def computed():
        metrics = WeightedMetrics(graded, THRESHOLDS)
        return metrics(weights), metrics.calibration_noise(weights)

    expected = computed()
    monkeypatch.setattr(weighted, "_PATIENTS", patients)
    for some, others in zip(computed(), expected, strict=True):
        assert list(some) == list(others)
        for name, value in some.items():
            np.testing.assert_allclose(value, others[name], rtol=1e-12, atol=1e-15)
