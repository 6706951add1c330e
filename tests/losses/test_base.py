"""What every loss promises, tried on each conf/loss/*.yaml as the training code builds it."""

import importlib
import pkgutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from koa_lightning import losses
from koa_lightning.errors import InputError
from koa_lightning.losses.base import GradeLoss
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.losses.weights import KINDS
from koa_lightning.models.outputs import n_outputs, probabilities

CONFIGS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml"))}
WEIGHTS = torch.tensor([1.0, 2.0, 3.0, 1.0, 4.0])
GRADES = torch.arange(5)

every_loss = pytest.mark.parametrize("name", CONFIGS)
with_and_without_weights = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])


def build(name: str, weights: torch.Tensor | None = None) -> GradeLoss:
    return instantiate(OmegaConf.load(CONFIGS[name]), class_weights=weights)


def random_logits(loss: GradeLoss, n: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, n_outputs(loss.link), generator=torch.Generator().manual_seed(0), dtype=dtype) * 2


def logits_for(link: str, grade: torch.Tensor, scale: float) -> torch.Tensor:
    """Logits of a network that votes for these grades; more surely with the scale."""
    if link == "softmax":
        return scale * torch.nn.functional.one_hot(grade, 5).float()
    return scale * (2.0 * (grade[:, None] > torch.arange(4)) - 1)


def test_every_loss_of_the_package_has_a_config():
    modules = [
        importlib.import_module(each.name) for each in pkgutil.iter_modules(losses.__path__, "koa_lightning.losses.")
    ]
    own = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    written = {each for each in own if issubclass(each, GradeLoss) and each is not GradeLoss}
    assert {type(build(name)) for name in CONFIGS} == written
    assert all(getattr(losses, each.__name__) is each for each in written)  # the name that 0.1 had
    assert getattr(losses, "Unknown", None) is None and getattr(losses, "build_it", None) is None


@every_loss
def test_config_says_what_it_is_and_which_weights(name):
    assert CONFIGS[name].read_text().startswith("# ")
    assert OmegaConf.load(CONFIGS[name]).class_weights in KINDS


@every_loss
@with_and_without_weights
def test_gradient_is_that_of_the_value(name, weights):
    loss = build(name, weights)
    logits = random_logits(loss, 5, torch.float64).requires_grad_()
    assert loss(logits, GRADES).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda x: loss(x, GRADES), (logits,))
    assert torch.autograd.gradcheck(lambda x: loss.per_knee(x, GRADES), (logits,))


@every_loss
@with_and_without_weights
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_finite_at_extreme_logits(name, weights, dtype):
    loss = build(name, weights)
    votes = [logits_for(loss.link, vote.expand(5), sign * 1e4) for vote in GRADES for sign in (1, -1)]
    same = [torch.full((5, n_outputs(loss.link)), value) for value in (-1e4, 0.0, 1e4)]
    for case in votes + same:
        for grade in GRADES:  # each knee alone, so that no other one hides its loss
            logits = case.to(dtype).requires_grad_()
            value = loss(logits, grade.expand(5))
            value.backward()
            assert value.dtype == torch.float32
            assert value.isfinite()
            assert logits.grad.isfinite().all()


@every_loss
def test_computes_in_float32_under_autocast(name):
    loss = build(name, WEIGHTS)
    logits = random_logits(loss, 5).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, GRADES)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), GRADES))


def test_autocast_does_not_reach_a_matrix_product_in_a_loss():
    class Product(GradeLoss):
        def per_knee(self, logits, grade):
            return (logits @ logits.T).diag()

    logits = random_logits(Product(), 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = Product()(logits, GRADES)
    assert torch.equal(value, Product()(logits, GRADES))


@every_loss
def test_weighting_a_grade_equals_repeating_its_knees(name):
    plain, weighted = build(name), build(name, WEIGHTS)
    grade = torch.tensor([4, 0, 2, 1, 1, 3, 0, 2, 4])
    logits = random_logits(plain, len(grade))
    times = WEIGHTS[grade].long()
    repeated = plain(logits.repeat_interleave(times, dim=0), grade.repeat_interleave(times))
    torch.testing.assert_close(weighted(logits, grade), repeated)
    assert not torch.isclose(weighted(logits, grade), plain(logits, grade))


@every_loss
def test_mean_is_of_the_per_knee_losses(name):
    loss = build(name)
    logits = random_logits(loss, 5)
    per_knee = loss.per_knee(logits, GRADES)
    assert per_knee.shape == (5,)
    assert (per_knee >= 0).all()
    torch.testing.assert_close(loss(logits, GRADES), per_knee.sum() / loss.terms(GRADES).sum())


@every_loss
def test_surer_of_the_truth_costs_less_and_of_a_wrong_grade_more(name):
    loss = build(name)
    right = [loss.per_knee(logits_for(loss.link, GRADES, scale), GRADES) for scale in (0.0, 1.0, 2.0)]
    assert (right[0] > right[1]).all()
    assert (right[1] > right[2]).all()
    wrong = [loss.per_knee(logits_for(loss.link, 4 - GRADES, scale), GRADES) for scale in (0.0, 1.0, 2.0)]
    mistaken = GRADES != 2
    assert (wrong[0] < wrong[1])[mistaken].all()
    assert (wrong[1] < wrong[2])[mistaken].all()


@every_loss
def test_descending_it_finds_the_grade_through_its_link(name):
    loss = build(name)
    logits = torch.zeros(5, n_outputs(loss.link), requires_grad=True)
    for _ in range(100):
        (gradient,) = torch.autograd.grad(loss.per_knee(logits, GRADES).sum(), logits)
        logits = (logits - 0.3 * gradient).detach().requires_grad_()
    result = probabilities(logits, loss.link)
    assert torch.equal(result.argmax(dim=1), GRADES)
    assert (result[GRADES, GRADES] > 0.7).all()


@pytest.mark.parametrize("name", ["soft_ordinal", "chen_ordinal", "emd"])
def test_ordinal_loss_punishes_far_mistakes_more(name):
    loss = build(name)
    for reference in GRADES:
        cost = loss.per_knee(logits_for(loss.link, GRADES, 4.0), reference.expand(5))
        by_distance = [cost[(GRADES - reference).abs() == d] for d in range(5)]
        for near, far in pairwise(by_distance):
            if len(far):
                assert near.max() < far.min()


@every_loss
def test_integer_grades_of_any_width(name):
    loss = build(name, WEIGHTS)
    logits = random_logits(loss, 5)
    assert torch.equal(loss(logits, GRADES.to(torch.uint8)), loss(logits, GRADES))


@every_loss
def test_a_checkpoint_loads_with_or_without_weights(name):
    build(name).load_state_dict(build(name, WEIGHTS).state_dict(), strict=True)


@every_loss
def test_logits_of_the_wrong_shape_are_refused(name):
    loss = build(name)
    other = {4: 5, 5: 4}[n_outputs(loss.link)]
    with pytest.raises(InputError, match="build the head with n_outputs"):
        loss(torch.zeros(5, other), GRADES)


@every_loss
def test_weights_left_as_a_word_in_the_config_are_refused(name):
    config = OmegaConf.load(CONFIGS[name])
    with pytest.raises(InstantiationException, match=r"InputError.*make it with") as caught:
        instantiate(config)
    assert isinstance(caught.value.__cause__, InputError)


@pytest.mark.parametrize(
    "weights",
    [
        torch.ones(4),
        torch.tensor([1.0, 1, 1, 1, 0]),
        torch.tensor([1.0, 1, 1, 1, -1]),
        torch.tensor([1.0, 1, 1, 1, float("nan")]),
        "balanced",
    ],
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(InputError, match="class_weights"):
        CrossEntropy(weights)
