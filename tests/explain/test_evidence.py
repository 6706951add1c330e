import pytest
import torch

from koa_lightning.explain.evidence import TARGETS, evidence, slopes
from koa_lightning.models.outputs import LINKS, expected_grade, n_outputs, probabilities


def logits(link, n=6):
    return torch.randn(n, n_outputs(link), generator=torch.Generator().manual_seed(0))


def test_of_softmax_it_is_the_logit_of_the_grade():
    given = logits("softmax")
    assert torch.equal(evidence(given, [0, 1, 2, 3, 4, 0], "grade", "softmax"), given[range(6), [0, 1, 2, 3, 4, 0]])


def test_of_conditional_logits_it_is_the_log_of_the_probability():
    given = logits("corn")
    shares = probabilities(given, "corn")[range(6), [0, 1, 2, 3, 4, 0]]
    torch.testing.assert_close(evidence(given, [0, 1, 2, 3, 4, 0], "grade", "corn"), shares.log())


@pytest.mark.parametrize("link", LINKS)
def test_no_grade_is_the_predicted_one(link):
    given = logits(link)
    best = probabilities(given, link).argmax(1).tolist()
    assert torch.equal(evidence(given, [None] * 6, "grade", link), evidence(given, best, "grade", link))


@pytest.mark.parametrize("link", LINKS)
def test_the_expected_grade_whatever_grade_is_asked_for(link):
    given = logits(link)
    for grades in ([None] * 6, [4] * 6):
        assert torch.equal(evidence(given, grades, "expected", link), expected_grade(probabilities(given, link)))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("link", LINKS)
def test_slopes_point_where_the_evidence_grows_and_are_scaled_to_one(link, target):
    given = logits(link).double()
    found = slopes(given, [2] * 6, target, link)
    assert found.abs().amax(1).tolist() == pytest.approx([1.0] * 6)
    step = 1e-3 * found
    change = evidence(given + step, [2] * 6, target, link) - evidence(given - step, [2] * 6, target, link)
    assert (change > 0).all()
    assert not given.requires_grad


def test_evidence_that_nothing_changes_has_no_slope():
    sure = torch.tensor([[0.0, -2000.0, -2000.0, -2000.0, -2000.0]])
    assert slopes(sure, [None], "expected", "softmax").tolist() == [[0.0] * 5]
