import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from koa_lightning.config.metrics import CONFUSION, declared
from koa_lightning.metrics.weighted import function

GRADES = range(5)
FUNCTIONS = {metric.name: function(metric) for metric in declared() if metric.of == CONFUSION}
knees = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)


def confusion_of(pairs):
    counts = torch.zeros(5, 5, dtype=torch.long)
    for reference, prediction in pairs:
        counts[reference, prediction] += 1
    return counts


def of_true(per_grade, pairs):
    """Leave undefined what is about a grade that no knee truly has."""
    true = {grade for grade, _ in pairs}
    return np.where([grade in true for grade in GRADES], per_grade, np.nan)


def sklearn_values(pairs):
    reference, prediction = np.array(pairs).T
    both = {"y_true": reference, "y_pred": prediction}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of grades that do not occur
        return {
            "accuracy": sk.accuracy_score(**both),
            "balanced_accuracy": sk.balanced_accuracy_score(**both),
            "f1_macro": sk.f1_score(**both, average="macro", zero_division=0),
            "precision_macro": sk.precision_score(**both, average="macro", zero_division=0),
            "recall_macro": sk.recall_score(**both, average="macro", zero_division=0),
            "precision": of_true(sk.precision_score(**both, labels=GRADES, average=None, zero_division=np.nan), pairs),
            "recall": sk.recall_score(**both, labels=GRADES, average=None, zero_division=np.nan),
            "f1": of_true(sk.f1_score(**both, labels=GRADES, average=None, zero_division=0), pairs),
            "quadratic_kappa": sk.cohen_kappa_score(reference, prediction, labels=GRADES, weights="quadratic"),
            "linear_kappa": sk.cohen_kappa_score(reference, prediction, labels=GRADES, weights="linear"),
            "mae": sk.mean_absolute_error(**both),
        }


@settings(max_examples=60, deadline=None)
@given(knees)
def test_equal_to_scikit_learn(pairs):
    confusion = confusion_of(pairs)
    for name, expected in sklearn_values(pairs).items():
        one_grade = name.endswith("_kappa") and len(set(sum(pairs, ()))) == 1
        if one_grade:  # scikit-learn has changed its answer here over its versions
            expected = math.nan
        actual = FUNCTIONS[name](confusion)
        np.testing.assert_allclose(actual, expected, atol=1e-12, equal_nan=True, err_msg=name)


def test_by_hand():
    confusion = confusion_of([(0, 0), (0, 2), (4, 3), (4, 4)])
    assert FUNCTIONS["accuracy"](confusion) == 0.5
    assert FUNCTIONS["balanced_accuracy"](confusion) == 0.5
    assert FUNCTIONS["mae"](confusion) == 0.75
    assert FUNCTIONS["f1"](confusion).tolist() == pytest.approx(
        [2 / 3, math.nan, math.nan, math.nan, 2 / 3], nan_ok=True
    )
    assert FUNCTIONS["f1_macro"](confusion).item() == pytest.approx(1 / 3)  # grade 1 occurs nowhere
    # squares observed 4 + 1; by chance each of two 0 (29) and two 4 (21) against a quarter of 0, 2, 3, 4
    assert FUNCTIONS["quadratic_kappa"](confusion).item() == pytest.approx(1 - 5 / (2 * (29 + 21) / 4))


def test_rows_are_the_truth():
    confusion = confusion_of([(0, 0), (0, 1), (0, 1), (1, 1)])
    assert FUNCTIONS["balanced_accuracy"](confusion).item() == pytest.approx((1 / 3 + 1) / 2)


NAMES = [
    "accuracy", "balanced_accuracy", "f1", "f1_macro", "precision", "precision_macro",
    "recall", "recall_macro", "quadratic_kappa", "linear_kappa", "mae",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_are_the_single_calls(name):
    metric = FUNCTIONS[name]
    counts = torch.randint(0, 6, (2, 3, 5, 5), generator=torch.Generator().manual_seed(0))
    counts[1, 2] = 0
    counts[0, 1, 3] = 0
    single = torch.stack([torch.stack([metric(counts[i, j]) for j in range(3)]) for i in range(2)])
    torch.testing.assert_close(metric(counts), single, equal_nan=True)
    torch.testing.assert_close(metric(counts.float()), single, equal_nan=True)
    assert single.dtype == torch.float64


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("f1", "precision", "recall")])
def test_nothing_counted_is_nan(name):
    assert FUNCTIONS[name](torch.zeros(5, 5)).isnan()


def test_kappa_of_one_grade_is_nan_but_of_constant_prediction_0():
    assert FUNCTIONS["quadratic_kappa"](confusion_of([(2, 2)] * 3)).isnan()
    assert FUNCTIONS["quadratic_kappa"](confusion_of([(0, 2), (2, 2), (4, 2)])) == 0
