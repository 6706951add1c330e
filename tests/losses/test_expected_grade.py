import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import mean_squared_error

from koa_lightning.errors import InputError
from koa_lightning.losses.expected_grade import ExpectedGrade
from koa_lightning.losses.soft_ordinal import SoftOrdinal

LOGITS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3
GRADE = torch.arange(30) % 5


@given(st.floats(0, 10), st.floats(0.2, 5))
def test_equals_soft_ordinal_and_scikit_learns_squared_error(regression, sharpness):
    expected_grade = softmax(LOGITS.double().numpy(), axis=1) @ np.arange(5)
    expected = SoftOrdinal(sharpness=sharpness)(LOGITS, GRADE).item()
    expected += regression * mean_squared_error(GRADE.numpy(), expected_grade)
    found = ExpectedGrade(sharpness=sharpness, regression=regression)(LOGITS, GRADE)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-5)


def test_without_regression_it_is_soft_ordinal():
    torch.testing.assert_close(ExpectedGrade(regression=0.0)(LOGITS, GRADE), SoftOrdinal()(LOGITS, GRADE))


def test_the_gradient_draws_the_expected_grade_to_the_true_one():
    logits = torch.zeros(1, 5, requires_grad=True)
    ExpectedGrade(regression=5.0)(logits, torch.tensor([4])).backward()
    assert logits.grad is not None
    assert (logits.grad[0].diff() < 0).all()  # the higher the grade, the more its logit rises


@pytest.mark.parametrize("regression", [-0.1, float("inf"), float("nan")])
def test_bad_parameters_are_refused(regression):
    with pytest.raises(InputError, match=r"loss\.regression"):
        ExpectedGrade(regression=regression)
