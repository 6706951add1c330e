"""Our operations in Kornia's own container, and what each promises."""

import pytest
import torch
from kornia import augmentation as ka

from koa_lightning.training.augmentation import (
    RandomCollimation,
    RandomDetectorNoise,
    RandomExposureCurve,
    RandomMeanContrast,
    RandomMeanErasing,
)

OURS = (RandomMeanContrast, RandomExposureCurve, RandomDetectorNoise, RandomMeanErasing, RandomCollimation)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("made", OURS)
@pytest.mark.parametrize("channels", [1, 3])
def test_in_kornias_container(made, channels):
    image = torch.rand(6, channels, 20, 30)
    sequence = ka.AugmentationSequential(made(p=1.0), data_keys=["input", "mask"])
    changed, mask = sequence(image, image.round())
    assert changed.shape == image.shape and not torch.equal(changed, image)
    assert torch.equal(mask, image.round())
    assert (changed >= 0).all() and (changed <= 1).all()
    assert torch.equal(sequence(image, image, params=sequence._params)[0], changed)
    assert torch.equal(made(p=0.0)(image), image)
    assert made(p=1.0, keepdim=True)(image[0]).shape == image[0].shape


@pytest.mark.parametrize("made", OURS)
def test_same_on_batch(made):
    image = torch.rand(1, 1, 20, 30).expand(5, 1, 20, 30)
    changed = made(p=1.0, same_on_batch=True)(image)
    assert torch.equal(changed, changed[:1].expand_as(changed))
    assert not torch.equal(made(p=1.0)(image)[0], made(p=1.0)(image)[1])


def test_contrast_keeps_the_mean_and_stretches_about_it():
    image = torch.rand(4, 1, 30, 30) * 0.2 + 0.4
    operation = RandomMeanContrast((0.5, 1.5))
    changed = operation(image)
    factor = operation._params["contrast_factor"]
    torch.testing.assert_close(changed.mean((1, 2, 3)), image.mean((1, 2, 3)))
    torch.testing.assert_close(changed.std((1, 2, 3)), image.std((1, 2, 3)) * factor)


@pytest.mark.parametrize("curve", [-1.0, -0.3, 0.5, 2.0])
def test_an_exposure_curve_rises_and_keeps_black_gray_and_white(curve):
    image = torch.linspace(0, 1, 101).view(1, 1, 1, 101)
    changed = RandomExposureCurve((curve, curve))(image).flatten()
    assert (changed.diff() >= -1e-6).all()
    torch.testing.assert_close(changed[[0, 50, 100]], torch.tensor([0.0, 0.5, 1.0]))


def test_noise_is_gaussian_white_and_different_in_each_picture():
    operation = RandomDetectorNoise((0.05, 0.1))
    noise = operation(torch.full((4, 1, 128, 128), 0.5)) - 0.5
    flat = noise.flatten(1) / operation._params["std"][:, None]
    assert flat.mean(1).abs().max() < 0.04 and (flat.std(1) - 1).abs().max() < 0.03
    assert ((flat.abs() < 1).float().mean() - 0.6827).abs() < 0.01
    assert (flat[:, 1:] * flat[:, :-1]).mean(1).abs().max() < 0.04
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.04


def test_erasing_fills_only_the_rectangle_with_the_mean():
    image, operation = torch.rand(6, 1, 30, 40), RandomMeanErasing(p=1.0)
    changed = operation(image)
    for i in range(6):
        x, y, w, h = (int(operation._params[name][i]) for name in ("xs", "ys", "widths", "heights"))
        expected = image[i].clone()
        expected[:, y : y + h, x : x + w] = image[i].mean()
        torch.testing.assert_close(changed[i], expected)


def test_collimation_covers_the_edges_and_nothing_else():
    image, operation = torch.rand(20, 1, 40, 60) + 0.01, RandomCollimation((0.0, 0.25), p=1.0)
    changed = operation(image)
    x, y, w, h = (operation._params[name].int() for name in ("xs", "ys", "widths", "heights"))
    assert x.min() >= 0 and x.max() > 10 and (x + w).max() <= 60 and y.max() > 6 and (y + h).max() <= 40
    for i in range(20):
        window = (slice(None), slice(y[i], y[i] + h[i]), slice(x[i], x[i] + w[i]))
        assert torch.equal(changed[i][window], image[i][window])
        assert (changed[i] > 0).sum() == h[i] * w[i]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomMeanErasing((0.5, 1.2)), "scale must be"),
        (lambda: RandomMeanErasing(ratio=(0.0, 1.0)), "ratio must be"),
        (lambda: RandomCollimation(value=2.0), "value must be"),
        (lambda: RandomCollimation((0.0, 0.6)), "out of bounds"),
        (lambda: RandomExposureCurve((-2.0, 0.0)), "curve out of bounds"),
        (lambda: RandomMeanContrast((-1.0, 1.0)), "contrast_factor out of bounds"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
