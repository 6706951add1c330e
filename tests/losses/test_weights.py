import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from koa_lightning.errors import InputError
from koa_lightning.losses.weights import KINDS, class_weights

COUNTS = [2286, 1046, 1516, 757, 173]
WEIGHTED = [kind for kind in KINDS if kind != "none"]


def test_none_is_none():
    assert class_weights("none", COUNTS) is None


def test_balanced_equals_sklearn():
    expected = compute_class_weight("balanced", classes=np.arange(5), y=np.repeat(np.arange(5), COUNTS))
    np.testing.assert_allclose(class_weights("balanced", COUNTS), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "ratio"),
    [
        ("balanced", 2286 / 173),
        ("sqrt", (2286 / 173) ** 0.5),
        ("effective_number", (1 - 0.999**2286) / (1 - 0.999**173)),
    ],
)
def test_ratio_of_the_rarest_to_the_commonest(kind, ratio):
    weights = class_weights(kind, COUNTS)
    assert (weights[4] / weights[0]).item() == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("kind", WEIGHTED)
@settings(deadline=None, derandomize=True)
@given(counts=st.lists(st.integers(1, 10**6), min_size=5, max_size=5))
def test_mean_over_knees_is_one_and_rare_grades_weigh_no_less(kind, counts):
    weights = class_weights(kind, counts)
    assert weights.dtype == torch.float32
    assert weights.shape == (5,)
    assert (weights > 0).all()
    knees = torch.tensor(counts, dtype=torch.float64)
    assert ((weights * knees).sum() / knees.sum()).item() == pytest.approx(1, rel=1e-5)
    by_count = weights[knees.argsort()]
    assert (by_count.diff() <= 1e-6 * by_count[:-1]).all()


def test_effective_number_lies_between_equal_and_balanced():
    torch.testing.assert_close(class_weights("effective_number", COUNTS, beta=0.0), torch.ones(5))
    nearly = class_weights("effective_number", COUNTS, beta=1 - 1e-9)
    torch.testing.assert_close(nearly, class_weights("balanced", COUNTS), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", WEIGHTED)
def test_grade_without_knees_is_refused(kind):
    with pytest.raises(InputError, match="no training knee of grade 1, 4"):
        class_weights(kind, [5, 0, 5, 5, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("median", COUNTS), "'median'.*none, balanced, sqrt, effective_number"),
        (("balanced", COUNTS[:4]), "5 counts"),
        (("effective_number", COUNTS, 1.0), "beta is 1.0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        class_weights(*arguments)


def test_the_ends_of_what_is_taken():
    for beta in (0.0, 1 - 1e-12):
        assert class_weights("effective_number", COUNTS, beta).isfinite().all()
    with pytest.raises(InputError, match=r"beta is -0\.01, give a number in \[0, 1\)"):
        class_weights("effective_number", COUNTS, -0.01)
    assert class_weights("balanced", [1] * 5).tolist() == [1.0] * 5
    with pytest.raises(InputError, match="5 counts"):
        class_weights("balanced", [*COUNTS, 3])
