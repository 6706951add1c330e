import numpy as np
import pytest
import torch
from scipy.special import softmax

from koa_lightning.errors import InputError
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.losses.focal import Focal

LOGITS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
GRADE = torch.arange(30) % 5


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_equals_the_formula(gamma):
    p = softmax(LOGITS.numpy(), axis=1)[np.arange(30), GRADE.numpy()]
    expected = -((1 - p) ** gamma) * np.log(p)
    np.testing.assert_allclose(Focal(gamma=gamma).per_knee(LOGITS, GRADE).numpy(), expected, rtol=1e-6)


def test_gamma_zero_is_cross_entropy():
    torch.testing.assert_close(Focal(gamma=0).per_knee(LOGITS, GRADE), CrossEntropy().per_knee(LOGITS, GRADE))


def test_hundred_times_less_than_cross_entropy_at_nine_tenths():
    """The example of Lin et al. 2017, section 3.2."""
    logits = torch.tensor([[0.9, 0.025, 0.025, 0.025, 0.025]]).log()
    grade = torch.tensor([0])
    ratio = CrossEntropy().per_knee(logits, grade) / Focal(gamma=2).per_knee(logits, grade)
    assert ratio.item() == pytest.approx(100, rel=1e-4)


def test_small_gamma_is_finite_where_the_probability_rounds_to_one():
    logits = torch.tensor([[100.0, 0, 0, 0, 0]], requires_grad=True)
    Focal(gamma=0.5)(logits, torch.tensor([0])).backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [-1.0, float("inf"), float("nan")])
def test_bad_gamma_is_refused(gamma):
    with pytest.raises(InputError, match="gamma"):
        Focal(gamma=gamma)
