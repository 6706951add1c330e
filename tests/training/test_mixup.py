import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.config.compose import choices_of, compose
from koa_lightning.errors import InputError
from koa_lightning.losses.build import loss as build_loss
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.losses.soft_ordinal import SoftOrdinal
from koa_lightning.training.mixup import Mix, Mixed


def batch(n=6, side=20):
    """Each picture has a gray value of its own, so that a mixed pixel tells whose it is."""
    return (torch.arange(n) / n).view(n, 1, 1, 1).expand(n, 1, side, side).contiguous()


def mixed(mix, seed, image=None):
    torch.manual_seed(seed)
    return mix(batch() if image is None else image)


@given(st.integers(0, 10_000), st.floats(0.05, 5))
def test_mixup_is_the_mean_that_its_share_says(seed, alpha):
    image = batch()
    found = mixed(Mix(mixup=alpha), seed, image)
    assert 0.5 <= found.share <= 1
    assert sorted(found.partner.tolist()) == list(range(6))
    assert torch.allclose(found.image, found.share * image + (1 - found.share) * image[found.partner], atol=1e-6)


@given(st.integers(0, 10_000), st.integers(8, 33))
def test_cutmix_pastes_one_rectangle_of_the_area_that_its_share_says(seed, side):
    image = batch(side=side)
    found = mixed(Mix(cutmix=1.0), seed, image)
    assert 0.5 <= found.share <= 1
    for row, partner in enumerate(found.partner.tolist()):
        if partner == row:
            continue
        from_partner = found.image[row, 0] == image[partner, 0, 0, 0]
        assert math.isclose(1 - from_partner.float().mean(), found.share, abs_tol=1e-6)
        rows, columns = from_partner.any(1).sum(), from_partner.any(0).sum()
        assert from_partner.sum() == rows * columns  # a rectangle, whole
        assert ((found.image[row, 0] == image[row, 0, 0, 0]) | from_partner).all()


def test_the_input_stays_and_a_seed_repeats():
    image = batch()
    kept = image.clone()
    first, again, other = (mixed(Mix(mixup=1.0, cutmix=1.0), seed, image) for seed in (1, 1, 2))
    assert torch.equal(image, kept)
    assert torch.equal(first.image, again.image) and first.share == again.share
    assert not torch.equal(first.image, other.image)


def test_both_kinds_come_and_some_batches_stay():
    kinds = {"whole": 0, "mean": 0, "rectangle": 0}
    for seed in range(300):
        found = mixed(Mix(mixup=1.0, cutmix=1.0, probability=0.6), seed)
        own = (found.image == batch()).all().item()
        flat = (found.image == found.image[..., :1, :1]).all().item()
        kinds["whole" if own else "mean" if flat else "rectangle"] += 1
    assert all(abs(kinds[kind] - n) < 35 for kind, n in (("whole", 120), ("mean", 90), ("rectangle", 90))), kinds


@pytest.mark.parametrize(
    ("mix", "progress", "n"),
    [(Mix(), 0.0, 6), (Mix(mixup=1.0, until=0.5), 0.5, 6), (Mix(cutmix=1.0), 0.0, 1), (Mix(mixup=1, until=0.0), 0, 6)],
)
def test_when_nothing_is_mixed_the_batch_and_the_generator_are_left_alone(mix, progress, n):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = mix(batch(n), progress)
    assert torch.equal(found.image, batch(n))
    assert found.share == 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), SoftOrdinal()])
def test_of_a_loss_linear_in_the_label_it_is_the_loss_of_the_mixed_label(loss):
    torch.manual_seed(0)
    logits, grade, partner = torch.randn(5, 5, dtype=torch.float64), torch.arange(5), torch.tensor([1, 2, 3, 4, 0])
    one_hot = torch.eye(5, dtype=torch.float64)
    if isinstance(loss, SoftOrdinal):
        label = loss.labels.double()
    else:
        label = one_hot * (1 - loss.label_smoothing) + loss.label_smoothing / 5
    label = 0.7 * label[grade] + 0.3 * label[partner]
    wanted = -(label * logits.log_softmax(1)).sum(1).mean()
    found = Mixed(torch.zeros(5, 1, 2, 2), partner, 0.7).loss(loss, logits, grade)
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)


@pytest.mark.parametrize("choice", choices_of("loss"))
def test_every_loss_mixes(choice):
    loss = build_loss(compose("train", [f"loss={choice}"]).loss, [5, 5, 5, 5, 5])
    logits = torch.randn(4, 4 if loss.link == "corn" else 5, generator=torch.Generator().manual_seed(1))
    grade, partner = torch.tensor([0, 1, 3, 4]), torch.tensor([3, 2, 1, 0])
    whole, half, mirrored = (Mixed(logits, partner, share).loss(loss, logits, grade) for share in (1.0, 0.5, 0.0))
    assert torch.equal(whole, loss(logits, grade))
    assert torch.allclose(half, (loss(logits, grade) + loss(logits, grade[partner])) / 2)
    assert torch.allclose(mirrored, loss(logits, grade[partner]))


@pytest.mark.parametrize("option", ["mixup", "cutmix", "probability", "until"])
@pytest.mark.parametrize("value", [-0.1, 101.0, float("nan")])
def test_values_out_of_range_are_named(option, value):
    with pytest.raises(InputError, match=rf"mix\.{option}="):
        Mix(**{option: value})


@pytest.mark.parametrize("choice", choices_of("mix"))
def test_the_configs_name_what_they_do(choice):
    cfg = compose("train", [f"mix={choice}"]).mix
    assert (cfg.mixup > 0, cfg.cutmix > 0) == (choice == "mixup", choice == "cutmix")
