import pytest
import torch
from coral_pytorch.losses import corn_loss

from koa_lightning.losses.corn import Corn
from koa_lightning.models.outputs import probabilities

LOGITS = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("grade", [torch.arange(40) % 5, torch.zeros(40).long(), torch.full((40,), 4)])
def test_equals_coral_pytorch(grade):
    torch.testing.assert_close(Corn()(LOGITS, grade), corn_loss(LOGITS, grade, num_classes=5))


def test_a_knee_costs_minus_the_log_of_its_probability():
    grade = torch.arange(40) % 5
    expected = -probabilities(LOGITS, "corn")[torch.arange(40), grade].log()
    torch.testing.assert_close(Corn().per_knee(LOGITS, grade), expected, rtol=1e-4, atol=1e-5)


def test_terms_are_the_questions_asked():
    assert Corn().terms(torch.arange(5)).tolist() == [1, 2, 3, 4, 4]


def test_questions_beyond_the_grade_do_not_count():
    logits = torch.zeros(1, 4, requires_grad=True)
    Corn()(logits, torch.tensor([1])).backward()
    assert (logits.grad[0, :2] != 0).all()
    assert (logits.grad[0, 2:] == 0).all()
