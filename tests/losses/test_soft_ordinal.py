import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from koa_lightning.errors import InputError
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.losses.soft_ordinal import SoftOrdinal

LOGITS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3
GRADE = torch.arange(30) % 5


def test_labels_as_documented():
    labels = SoftOrdinal().labels
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(5))
    np.testing.assert_allclose(labels.diag(), [0.92, 0.85, 0.85, 0.85, 0.92], atol=0.005)
    neighbours = torch.cat([labels.diag(1), labels.diag(-1)])
    assert ((neighbours >= 0.065) & (neighbours < 0.085)).all()


@pytest.mark.parametrize(("sharpness", "power"), [(2.5, 1.0), (1.8, 2.0), (0.5, 1.5)])
def test_equals_scipy(sharpness, power):
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    labels = softmax(-sharpness * distance**power, axis=1)[GRADE.numpy()]
    expected = -(labels * log_softmax(LOGITS.double().numpy(), axis=1)).sum(axis=1)
    loss = SoftOrdinal(sharpness=sharpness, power=power)
    np.testing.assert_allclose(loss.per_knee(LOGITS, GRADE).numpy(), expected, rtol=1e-5)


def test_sharp_labels_are_cross_entropy():
    torch.testing.assert_close(SoftOrdinal(sharpness=100.0)(LOGITS, GRADE), CrossEntropy()(LOGITS, GRADE))


@pytest.mark.parametrize(
    "bad", [{"sharpness": 0.0}, {"power": 0.0}, {"power": -1.0}, {"sharpness": float("nan")}, {"power": float("inf")}]
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(InputError, match=r"loss\.sharpness"):
        SoftOrdinal(**bad)
