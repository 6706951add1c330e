import numpy as np
import pytest
import torch
from coral_pytorch.dataset import corn_label_from_logits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special

from koa_lightning.errors import InputError
from koa_lightning.models.outputs import LINKS, expected_grade, median_grade, n_outputs, probabilities, round_grade

LOGITS = st.floats(-1e4, 1e4, width=32)
links = pytest.mark.parametrize("link", LINKS)


def drawn_logits(data: st.DataObject, link: str) -> torch.Tensor:
    rows = data.draw(st.integers(1, 4))
    return torch.from_numpy(data.draw(arrays(np.float32, (rows, n_outputs(link)), elements=LOGITS)))


@links
@settings(deadline=None, derandomize=True)
@given(data=st.data())
def test_probabilities_are_a_distribution_and_their_mean_is_a_grade(link, data):
    result = probabilities(drawn_logits(data, link), link)
    assert result.shape[1] == 5
    assert (result >= 0).all()
    assert torch.allclose(result.sum(dim=1), torch.ones(len(result)), atol=1e-6)
    expected = expected_grade(result)
    assert ((expected >= 0) & (expected <= 4)).all()


def test_n_outputs():
    assert (n_outputs("softmax"), n_outputs("corn")) == (5, 4)


def test_softmax_equals_scipy():
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) * 5
    expected = special.softmax(logits.double().numpy(), axis=1)
    np.testing.assert_allclose(probabilities(logits, "softmax").numpy(), expected, rtol=1e-5)


def test_corn_is_differences_of_products():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3
    exceeds = np.cumprod(special.expit(logits.double().numpy()), axis=1)
    bounds = np.hstack([np.ones((50, 1)), exceeds, np.zeros((50, 1))])
    np.testing.assert_allclose(probabilities(logits, "corn").numpy(), -np.diff(bounds, axis=1), atol=1e-6)


def test_corn_median_equals_coral_pytorch():
    logits = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)) * 3
    exceeds = 1 - probabilities(logits, "corn").cumsum(dim=1)[:, :4]
    assert torch.equal((exceeds > 0.5).sum(dim=1), corn_label_from_logits(logits))


def test_corn_keeps_small_probabilities():
    # 1 - P(y > 0) would round to 0 in float32 here.
    logits = torch.tensor([[30.0, 0.0, 0.0, 0.0]])
    assert probabilities(logits, "corn")[0, 0].item() == pytest.approx(special.expit(-30.0), rel=1e-5, abs=0)


@links
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_probabilities_are_computed_in_float32(link, dtype):
    logits = (torch.randn(20, n_outputs(link), generator=torch.Generator().manual_seed(0)) * 4).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = probabilities(logits, link)
        expected = expected_grade(result)
    assert result.dtype == expected.dtype == torch.float32
    assert torch.equal(result, probabilities(logits.float(), link))
    assert torch.equal(expected, expected_grade(result))


@links
def test_probabilities_are_differentiable_at_the_extremes(link):
    logits = torch.full((2, n_outputs(link)), 1e4)
    logits[1] *= -1
    logits.requires_grad_()
    expected_grade(probabilities(logits, link)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_unknown_link_names_the_known_ones():
    with pytest.raises(InputError, match=r"'probit'.*softmax, corn"):
        n_outputs("probit")
    with pytest.raises(InputError, match=r"'probit'.*softmax, corn"):
        probabilities(torch.zeros(1, 5), "probit")


@pytest.mark.parametrize(("link", "shape"), [("softmax", (3, 4)), ("corn", (3, 5)), ("softmax", (5,))])
def test_logits_of_another_link_are_refused(link, shape):
    with pytest.raises(InputError, match=f"link '{link}'"):
        probabilities(torch.zeros(shape), link)


def test_expected_grade_by_hand():
    given_probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.2, 0.2], [0, 0, 0, 0, 1.0], [1.0, 0, 0, 0, 0]])
    torch.testing.assert_close(expected_grade(given_probabilities), torch.tensor([2.2, 4.0, 0.0]))
    assert expected_grade(given_probabilities.double()).dtype == torch.float64


@links
@settings(deadline=None, derandomize=True)
@given(data=st.data())
def test_no_grade_has_a_smaller_expected_absolute_error_than_the_median(link, data):
    p = probabilities(drawn_logits(data, link), link)
    errors = (torch.arange(5)[:, None] - torch.arange(5)).abs().double() @ p.double().T  # grade x knee
    chosen = errors.gather(0, median_grade(p)[None])[0]
    assert torch.allclose(chosen, errors.min(0).values, atol=1e-5)


def test_the_median_by_hand():
    p = torch.tensor([[0.4, 0.05, 0.1, 0.2, 0.25], [0.5, 0, 0.1, 0.2, 0.2], [0, 0, 0, 0, 1], [0.1, 0.4, 0.5, 0, 0]])
    assert median_grade(p).tolist() == [2, 0, 4, 1]  # of two that share a half each, the lower
    assert median_grade(torch.zeros(1, 5)).tolist() == [4]
    assert torch.equal(median_grade(p), median_grade(p.double()))


def test_expected_grade_stays_on_the_scale_despite_rounding():
    assert expected_grade(torch.tensor([[0, 0, 0, 0, 1.0000002]])).item() == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_grade_takes_halves_up(dtype):
    expected = torch.tensor([0, 0.49, 0.5, 1.5, 2.5, 3.49, 3.5, 4], dtype=dtype)
    result = round_grade(expected)
    assert result.dtype == torch.int64
    assert result.tolist() == [0, 0, 1, 2, 3, 3, 4, 4]


def test_round_grade_just_below_a_half():
    just_below = torch.nextafter(torch.tensor([0.5]), torch.tensor([0.0]))
    assert round_grade(just_below).item() == 0


def test_the_median_grade_is_where_half_of_the_probability_is_reached():
    shares = torch.tensor(
        [
            [0.6, 0.1, 0.1, 0.1, 0.1],
            [0.5, 0.5, 0, 0, 0],
            [0.3, 0.1, 0.2, 0.1, 0.3],
            [0, 0, 0, 0, 1],
            [0.1] * 3 + [0.2, 0.5],
        ]
    )
    assert median_grade(shares).tolist() == [0, 0, 2, 4, 3]
    assert median_grade(torch.full((1, 5), 0.2)).tolist() == [2]
