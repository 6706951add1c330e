"""KneeAugment against Kornia's own functions one after the other, and what its users rely on."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia import enhance
from kornia import geometry as geo
from omegaconf import OmegaConf

from koa_lightning.errors import InputError
from koa_lightning.training.augmentation import AugmentParameters, KneeAugment, noise_fields

CONF = Path(__file__).parents[2] / "conf" / "augment"
GEOMETRY = {"rotation": 20.0, "translation": 0.1, "scale": (0.85, 1.15), "shear": 15.0}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def config(name):
    return instantiate(OmegaConf.load(CONF / f"{name}.yaml"))


def bytes_batch(n=8, height=40, width=48):
    return torch.randint(0, 256, (n, 1, height, width), dtype=torch.uint8, generator=seeded(9))


def smooth_batch(n=8, height=96, width=128):
    """Slow waves without any symmetry: a wrong sign or order shows, interpolation does not."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    wave = 0.5 + 0.2 * torch.sin(5 * x + 2 * y + 0.4) + 0.2 * torch.cos(7 * y - 3 * x * x)
    return wave.expand(n, 1, height, width).contiguous()


def still(n, **changes):
    """Parameters that change nothing but what is named."""
    return replace(KneeAugment().draw(n, 96, 128, seeded()), **changes)


def kornia_geometry(image, p):
    """Kornia's functions one after the other, each with an interpolation of its own."""
    n, _, height, width = image.shape
    centre = torch.tensor([[(width - 1) / 2, (height - 1) / 2]]).expand(n, 2)
    image = torch.where(p.flip.view(-1, 1, 1, 1), geo.hflip(image), image)
    shear = geo.get_shear_matrix2d(centre, sx=p.shear.deg2rad())[:, :2]
    image = geo.affine(image, shear)
    image = geo.scale(image, p.scale)
    image = geo.rotate(image, p.angle)
    return geo.translate(image, torch.stack((p.shift_x, p.shift_y), dim=1))


def difference(a, b):
    """Mean absolute difference of the middle, where no step has met the padding."""
    return (a - b)[..., 32:-32, 40:-40].abs().mean((1, 2, 3)).max().item()


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"rotation": 20.0}, 1e-6),
        ({"translation": 0.1}, 1e-6),
        ({"scale": (0.85, 1.15)}, 1e-6),
        ({"shear": 20.0}, 1e-6),
        ({"flip": 0.5, **GEOMETRY}, 1e-3),  # Kornia's side is interpolated four times
    ],
    ids=["rotation", "translation", "scale", "shear", "all"],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_one_warp_equals_kornia_step_by_step(options, tolerance, seed):
    image, augment = smooth_batch(), KneeAugment(**options)
    p = augment.draw(*image[:, 0].shape, generator=seeded(seed))
    ours = augment.transform(image, p)
    assert difference(ours, kornia_geometry(image, p)) < tolerance
    assert difference(ours, image) > 1e-2  # the test picture shows that it moved


@pytest.mark.parametrize("pixels", [1, 3 * 40 * 48])
def test_a_batch_warped_in_parts_is_the_same(pixels, monkeypatch):
    image, augment = bytes_batch(), config("strong")
    whole = augment(image, seeded())
    monkeypatch.setattr("koa_lightning.training.augmentation.CPU_PIXELS", pixels)
    assert torch.equal(augment(image, seeded()), whole)


@pytest.mark.parametrize("name", ["angle", "shift_x", "shift_y", "shear"])
def test_the_comparison_sees_a_wrong_sign(name):
    image, augment = smooth_batch(), KneeAugment(flip=0.5, **GEOMETRY)
    p = augment.draw(*image[:, 0].shape, generator=seeded())
    wrong = replace(p, **{name: -getattr(p, name)})
    assert difference(augment.transform(image, p), kornia_geometry(image, wrong)) > 1e-2


def test_the_comparison_sees_a_wrong_order():
    image, augment = smooth_batch(), KneeAugment(flip=1.0, **GEOMETRY)
    p = augment.draw(*image[:, 0].shape, generator=seeded())
    flipped_last = geo.hflip(kornia_geometry(image, replace(p, flip=~p.flip)))
    shifted_first = kornia_geometry(
        geo.translate(image, torch.stack((-p.shift_x, p.shift_y), dim=1)),
        replace(p, shift_x=0 * p.shift_x, shift_y=0 * p.shift_y),
    )
    ours = augment.transform(image, p)
    assert difference(ours, flipped_last) > 1e-2
    assert difference(ours, shifted_first) > 5e-3


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_whole_pixel_shift_and_padding(padding):
    image = bytes_batch(2, 6, 8) / 255
    p = still(2, shift_x=torch.tensor([2.0, 0.0]), shift_y=torch.tensor([0.0, -1.0]))
    right, up = KneeAugment(padding=padding).transform(image, p)[:, 0]
    torch.testing.assert_close(right[:, 2:], image[0, 0, :, :-2])
    torch.testing.assert_close(up[:-1], image[1, 0, 1:])
    edge = {
        "zeros": torch.zeros(6, 2),
        "border": image[0, 0, :, [0, 0]],
        "reflection": image[0, 0, :, [1, 0]],
    }
    torch.testing.assert_close(right[:, :2], edge[padding])


def test_quarter_turn_is_counter_clockwise():
    image = bytes_batch(1, 16, 16) / 255
    turned = KneeAugment().transform(image, still(1, angle=torch.tensor([90.0])))
    torch.testing.assert_close(turned, image.rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_flip_alone_mirrors_exactly():
    image = bytes_batch(64)
    augment = KneeAugment(flip=0.5)
    flip = augment.draw(64, 40, 48, seeded()).flip
    assert 16 < flip.sum() < 48
    expected = torch.where(flip.view(-1, 1, 1, 1), image.flip(-1), image) / 255
    assert torch.equal(augment(image, seeded()), expected)


def test_gray_values_equal_kornia():
    image = smooth_batch() * 0.5 + 0.25  # nothing clips: only then is the order of clamps of no matter
    augment = KneeAugment(brightness=0.1, contrast=0.3, gamma=(0.7, 1.4))
    p = augment.draw(*image[:, 0].shape, generator=seeded())
    expected = enhance.adjust_brightness(image, p.brightness)
    expected = enhance.adjust_contrast_with_mean_subtraction(expected, p.contrast)
    expected = enhance.adjust_gamma(expected, p.gamma)
    assert expected.min() > 0 and expected.max() < 1
    torch.testing.assert_close(augment.transform(image, p), expected, atol=1e-5, rtol=0)


def test_gray_values_clamp_before_gamma():
    image = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    p = still(2, brightness=torch.tensor([-0.2, 0.2]), gamma=torch.tensor([0.7, 1.4]))
    assert torch.equal(KneeAugment().transform(image, p), image)


def test_noise_is_gaussian_white_and_different_in_each_sample():
    like = torch.empty(4, 1, 128, 128)
    p = KneeAugment(noise=0.1).draw(4, 128, 128, seeded(3))
    noise = noise_fields(p, like)
    assert noise.shape == like.shape
    assert noise.mean((1, 2, 3)).abs().max() < 0.04
    assert (noise.std((1, 2, 3)) - 1).abs().max() < 0.03
    assert ((noise.abs() < 1).float().mean() - 0.6827).abs() < 0.01
    flat = noise.flatten(1)
    assert (flat[:, 1:] * flat[:, :-1]).mean(1).abs().max() < 0.04
    assert (torch.corrcoef(flat) - torch.eye(4)).abs().max() < 0.04
    assert not torch.equal(noise, noise_fields(replace(p, noise_seed=p.noise_seed + 1), like))


def test_noise_has_the_drawn_deviation():
    image, augment = torch.full((16, 1, 64, 64), 0.5), KneeAugment(noise=0.05)
    p = augment.draw(16, 64, 64, seeded())
    assert p.noise.min() < 0.02 < 0.03 < p.noise.max() <= 0.05
    torch.testing.assert_close(augment.transform(image, p).std((1, 2, 3)), p.noise, atol=0, rtol=0.06)


def test_erasing_share_area_aspect_and_gray():
    augment = KneeAugment(erasing=0.25, erasing_area=(0.05, 0.1), erasing_aspect=(0.5, 2.0))
    p = augment.draw(2000, 200, 100, seeded())
    height, width = (p.bottom - p.top).float(), (p.right - p.left).float()
    chosen = height > 0
    assert 0.21 < chosen.float().mean() < 0.29
    area = (height * width)[chosen] / (200 * 100)
    assert 0.045 < area.min() < 0.06 < 0.09 < area.max() < 0.105
    aspect = (height / width)[chosen]
    assert 0.45 < aspect.min() < 0.6 < 1.7 < aspect.max() < 2.2
    assert 0.4 < (aspect < 1).float().mean() < 0.6
    assert p.top[chosen].min() < 5 and p.bottom.max() <= 200 and p.bottom.max() > 195
    assert p.left[chosen].min() < 5 and p.right.max() <= 100 and p.right.max() > 95
    assert min(p.top.min(), p.left.min()) >= 0


def test_erasing_fills_only_the_rectangle_with_the_mean():
    image = bytes_batch(2) / 255
    sides = {"top": [0, 4], "bottom": [0, 10], "left": [0, 6], "right": [0, 20]}
    p = still(2, **{name: torch.tensor(value) for name, value in sides.items()})
    output = KneeAugment().transform(image, p)
    expected = image.clone()
    expected[1, 0, 4:10, 6:20] = image[1].mean()
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)
    assert torch.equal(output[0], image[0])


def test_erasing_the_whole_picture():
    p = KneeAugment(erasing=1.0, erasing_area=(1.0, 1.0), erasing_aspect=(1.0, 1.0)).draw(5, 30, 30, seeded())
    assert torch.equal(p.bottom - p.top, torch.full((5,), 30))
    assert torch.equal(p.right - p.left, torch.full((5,), 30))


def test_none_is_only_the_conversion():
    image = bytes_batch()
    assert torch.equal(config("none")(image), image / 255)
    assert torch.equal(KneeAugment()(image / 255), image / 255)
    default = {name: value for name, value in vars(KneeAugment()).items() if not name.startswith("_")}
    assert vars(config("none")).items() >= default.items()


@pytest.mark.parametrize("name", ["none", "light", "strong"])
@pytest.mark.parametrize("kind", ["uint8", "float", "channels_last", "transposed", "empty"])
def test_configs_keep_shape_range_and_input(name, kind):
    image = {
        "uint8": bytes_batch(),
        "float": bytes_batch() / 255,
        "channels_last": bytes_batch().contiguous(memory_format=torch.channels_last),
        "transposed": bytes_batch(8, 48, 40).mT,
        "empty": bytes_batch(0),
    }[kind]
    before = image.clone()
    output = config(name)(image, seeded())
    assert output.shape == image.shape and output.dtype == torch.float32
    assert ((output >= 0) & (output <= 1)).all()
    assert torch.equal(image, before)
    reference = config(name)(before.contiguous(), seeded())
    torch.testing.assert_close(output, reference, atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{"brightness": 0.5}, {"noise": 0.5}, {"erasing": 1.0}, {"flip": 1.0}])
def test_without_a_warp_a_float_batch_is_copied(options):
    image = bytes_batch() / 255
    before = image.clone()
    assert not torch.equal(KneeAugment(**options)(image, seeded()), before)
    assert torch.equal(image, before)


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    image, augment = bytes_batch(), config("strong")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = augment(image, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(augment(image, seeded(1)), first)
    assert not torch.equal(augment(image, seeded(2)), first)


def test_without_a_generator_the_global_one_is_used():
    image, augment = bytes_batch(), config("strong")
    torch.manual_seed(5)
    first, second = augment(image), augment(image)
    torch.manual_seed(5)
    assert torch.equal(augment(image), first)
    assert not torch.equal(first, second)


def test_each_sample_differs():
    image = bytes_batch(1).expand(16, 1, 40, 48)
    output = config("light")(image, seeded()).flatten(1)
    distance = torch.cdist(output, output) + torch.eye(16)
    assert distance.min() > 0.1


def test_an_option_does_not_disturb_the_other_draws():
    few = KneeAugment(rotation=10.0).draw(8, 40, 48, seeded())
    many = KneeAugment(rotation=10.0, flip=0.5, noise=0.1, erasing=0.5).draw(8, 40, 48, seeded())
    assert torch.equal(few.angle, many.angle)


def test_parameters_have_one_value_a_sample_within_their_range():
    p = config("strong").draw(500, 200, 100, seeded())
    tensors = {f.name: getattr(p, f.name) for f in fields(AugmentParameters) if f.name != "noise_seed"}
    assert {t.shape for t in tensors.values()} == {(500,)}
    limits = {"angle": (-20, 20), "shift_x": (-10, 10), "shift_y": (-20, 20), "scale": (0.85, 1.15)}
    limits |= {"brightness": (-0.2, 0.2), "contrast": (0.7, 1.3), "gamma": (0.7, 1.4), "noise": (0, 0.03)}
    for name, (low, high) in limits.items():
        margin = (high - low) * 0.03
        assert low - 1e-5 <= tensors[name].min() < low + margin, name
        assert high - margin < tensors[name].max() <= high + 1e-5, name


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    rotation=st.floats(0, 180),
    scale=st.tuples(st.floats(0.1, 1), st.floats(1, 10)),
    gamma=st.tuples(st.floats(0.1, 1), st.floats(1, 10)),
    strength=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_allowed_value_stays_in_range(height, width, rotation, scale, gamma, strength, seed):
    augment = KneeAugment(
        rotation=rotation, scale=scale, gamma=gamma, brightness=strength, contrast=strength, noise=strength,
        erasing=strength, erasing_area=(0.0, 1.0), erasing_aspect=(0.1, 10.0), padding="reflection",
    )  # fmt: skip
    output = augment(bytes_batch(3, height, width), seeded(seed))
    assert output.shape == (3, 1, height, width)
    assert ((output >= 0) & (output <= 1)).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flip", 1.5),
        ("flip", True),
        ("rotation", -1),
        ("rotation", "ten"),
        ("translation", 0.6),
        ("scale", (1.1, 0.9)),
        ("scale", (0.0, 1.0)),
        ("scale", 1.0),
        ("shear", 90),
        ("brightness", float("nan")),
        ("contrast", 1.01),
        ("gamma", (1.0,)),
        ("gamma", "12"),
        ("noise", -0.1),
        ("erasing", 2),
        ("erasing_area", (0.5, 1.2)),
        ("erasing_aspect", (0.0, 1.0)),
        ("padding", "mirror"),
    ],
)
def test_bad_arguments_are_named(name, value):
    with pytest.raises(InputError, match=rf"augment\.{name} is "):
        KneeAugment(**{name: value})


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "shape"),
        (torch.zeros(8, 8), "shape"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int16), "int16"),
    ],
)
def test_bad_batches_are_refused(image, message):
    with pytest.raises(InputError, match=message):
        KneeAugment()(image)


def test_train_and_eval_are_the_same_and_parents_can_visit():
    augment = config("strong")
    assert torch.equal(augment.train()(bytes_batch(), seeded()), augment.eval()(bytes_batch(), seeded()))
    visited = []
    torch.nn.Sequential(augment).apply(visited.append)  # Module.apply must not be shadowed
    assert augment in visited
