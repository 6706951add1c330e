import pytest
import torch
from torch import nn

from koa_lightning.errors import InputError
from koa_lightning.losses.cross_entropy import CrossEntropy

LOGITS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 3
GRADE = torch.arange(30) % 5


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 1.5, 7.0])])
def test_equals_torch(weights):
    expected = nn.CrossEntropyLoss(weight=weights)(LOGITS, GRADE)
    torch.testing.assert_close(CrossEntropy(weights)(LOGITS, GRADE), expected)


def test_label_smoothing_by_hand():
    label = torch.full((30, 5), 0.1 / 5)
    label[torch.arange(30), GRADE] += 0.9
    expected = -(label * LOGITS.log_softmax(dim=1)).sum(dim=1)
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.1).per_knee(LOGITS, GRADE), expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_bad_smoothing_is_refused(smoothing):
    with pytest.raises(InputError, match="label_smoothing"):
        CrossEntropy(label_smoothing=smoothing)


def test_no_smoothing_at_all_and_nearly_all_of_it_are_taken():
    plain = CrossEntropy().per_knee(LOGITS, GRADE)
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.0).per_knee(LOGITS, GRADE), plain)
    assert CrossEntropy(label_smoothing=0.999).per_knee(LOGITS, GRADE).isfinite().all()
