import pytest
import torch
from scipy.special import softmax

from koa_lightning.errors import InputError
from koa_lightning.losses.chen_ordinal import ChenOrdinal


def test_equals_the_formula_written_as_loops():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 2
    grade = torch.arange(20) % 5
    p = softmax(logits.double().numpy(), axis=1)
    total = 0.0
    for i, y in enumerate(grade.tolist()):
        for j in range(5):
            fine = {0: 0, 1: 4, 2: 6, 3: 8, 4: 10}[abs(y - j)]
            total += (p[i, j] * fine) ** 2
    assert ChenOrdinal()(logits, grade).item() == pytest.approx(total / 20, rel=1e-5)


@pytest.mark.parametrize(
    ("penalties", "grade", "expected"),
    [
        ((4, 6, 8, 10), 0, (16 + 36 + 64 + 100) / 25),
        ((4, 6, 8, 10), 2, (16 + 16 + 36 + 36) / 25),
        ((5, 8, 11, 14), 3, (25 + 25 + 64 + 121) / 25),
    ],
)
def test_uniform_prediction_by_hand(penalties, grade, expected):
    value = ChenOrdinal(penalties=penalties)(torch.zeros(1, 5), torch.tensor([grade]))
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "penalties", [(4, 6, 8), (4, 6, 8, 10, 12), (4, 6, 8, -1), (0, 6, 8, 10), (4, 6, 8, float("inf"))]
)
def test_bad_penalties_are_refused(penalties):
    with pytest.raises(InputError, match="penalties"):
        ChenOrdinal(penalties=penalties)
