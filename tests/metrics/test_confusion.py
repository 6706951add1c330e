import pytest
import torch

from koa_lightning.metrics.confusion import diagonal, distance, kappa, macro, where_true

COUNTS = torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]])


@pytest.mark.parametrize("power", [1, 2])
def test_kappa_by_hand(power):
    """One of six is off by one; by chance 4*3 + 2*3 of 36 agree, and 18 of 36 are off by one."""
    assert kappa(COUNTS, power).item() == pytest.approx(1 - (1 / 6) / (18 / 36))
    assert kappa(torch.zeros(3, 3), power).isnan()


def test_weights_grow_with_the_distance():
    off = torch.tensor([[2, 0, 1], [0, 1, 0], [1, 0, 2]])
    assert kappa(off, 2) < kappa(off, 1) < 1
    assert distance(off).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]


def test_a_mean_is_over_the_grades_that_occur():
    assert macro(torch.tensor([0.75, 1.0, 0.0]), COUNTS).item() == pytest.approx(1.75 / 2)
    assert where_true(torch.tensor([0.75, 1.0, 0.0]), COUNTS)[:2].tolist() == [0.75, 1.0]
    assert where_true(torch.tensor([0.75, 1.0, 0.0]), COUNTS)[2].isnan()
    assert diagonal(torch.stack([COUNTS, COUNTS])).tolist() == [[3, 2, 0], [3, 2, 0]]
