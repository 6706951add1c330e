import numpy as np
import pytest
import torch
from scipy.special import softmax

from koa_lightning.losses.emd import EMD

LOGITS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3
GRADE = torch.arange(30) % 5


@pytest.mark.parametrize(("grade", "expected"), [(0, 0.64 + 0.36 + 0.16 + 0.04), (2, 0.04 + 0.16 + 0.16 + 0.04)])
def test_uniform_prediction_by_hand(grade, expected):
    assert EMD()(torch.zeros(1, 5), torch.tensor([grade])).item() == pytest.approx(expected, rel=1e-6)


def test_sure_mistake_costs_its_distance():
    logits = 1e4 * torch.eye(5)
    assert EMD().per_knee(logits, torch.zeros(5).long()).tolist() == [0, 1, 2, 3, 4]


def test_equals_numpy():
    predicted = softmax(LOGITS.double().numpy(), axis=1).cumsum(axis=1)
    true = np.eye(5)[GRADE.numpy()].cumsum(axis=1)
    expected = ((predicted - true) ** 2).sum(axis=1)
    np.testing.assert_allclose(EMD().per_knee(LOGITS, GRADE).numpy(), expected, rtol=1e-4, atol=1e-7)
