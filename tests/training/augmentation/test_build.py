"""From a config to the augmentation: what the presets draw, and what is said of an operation that cannot be."""

import math
from pathlib import Path

import pytest
import torch
from kornia import augmentation as ka
from omegaconf import OmegaConf
from scipy import stats

from koa_lightning.config.augment import KORNIA
from koa_lightning.errors import InputError
from koa_lightning.training import augmentation as package
from koa_lightning.training.augmentation import FusedAugmentation, augmentation

CONF = Path(__file__).parents[3] / "conf" / "augment"
SHAPE = (4000, 1, 200, 100)
# What 0.1 drew, each evenly between its two ends; aspects on a logarithmic scale.
OLD = {
    "light": {"rotation": 10.0, "translation": 0.05, "scale": (0.95, 1.05), "brightness": 0.1, "contrast": 0.15},
    "strong": {"rotation": 20.0, "translation": 0.1, "scale": (0.85, 1.15), "brightness": 0.2, "contrast": 0.3,
               "gamma": (0.7, 1.4), "noise": 0.03, "erasing": 0.25, "area": (0.02, 0.1), "aspect": (0.5, 2.0)},
}  # fmt: skip


def preset(name):
    return augmentation(OmegaConf.load(CONF / f"{name}.yaml"), 64)


def one(**arguments):
    """The operation of a config that has one."""
    return augmentation({"ops": {"one": arguments}}, 32).operations["one"]


def drawn(name):
    """Parameters of all operations of a preset, for 4000 pictures."""
    torch.manual_seed(0)
    return {key: operation.forward_parameters(SHAPE) for key, operation in preset(name).operations.items()}


def evenly(values, low, high):
    """Whether values are drawn evenly between two ends (Kolmogorov-Smirnov)."""
    return stats.kstest(values.double().numpy(), "uniform", args=(low, high - low)).pvalue > 0.001


@pytest.mark.parametrize("name", OLD)
def test_presets_draw_as_0_1_did(name):
    old, new = OLD[name], drawn(name)
    assert 0.47 < new["flip"]["batch_prob"].mean() < 0.53
    assert evenly(new["rotation"]["degrees"], -old["rotation"], old["rotation"])
    x, y = new["affine"]["translations"].unbind(1)
    assert evenly(x / 100, -old["translation"], old["translation"])
    assert evenly(y / 200, -old["translation"], old["translation"])
    zoom = new["affine"]["scale"]
    assert torch.equal(zoom[:, 0], zoom[:, 1]) and evenly(zoom[:, 0], *old["scale"])
    assert not new["affine"]["angle"].any() and not new["affine"]["shear_x"].any()
    assert evenly(new["brightness"]["brightness_factor"] - 1, -old["brightness"], old["brightness"])
    assert evenly(new["contrast"]["contrast_factor"], 1 - old["contrast"], 1 + old["contrast"])
    always = set(new) - {"flip", "erasing"}
    assert all(new[key]["batch_prob"].all() for key in always)
    assert list(new) == [*("flip", "rotation", "affine", "brightness", "contrast"), *list(new)[5:]]


def test_what_strong_alone_draws():
    old, new = OLD["strong"], drawn("strong")
    assert list(new)[5:] == ["gamma", "noise", "erasing"] and len(drawn("light")) == 5
    assert evenly(new["gamma"]["gamma_factor"], *old["gamma"]) and (new["gamma"]["gain_factor"] == 1).all()
    assert evenly(new["noise"]["std"], 0.0, old["noise"]) and evenly(new["noise"]["start"], 0.0, 1.0)
    assert 0.22 < new["erasing"]["batch_prob"].mean() < 0.28
    height, width = new["erasing"]["heights"], new["erasing"]["widths"]
    noise = torch.rand(2, 4000, dtype=torch.float64) - 0.5  # undoes the rounding to pixels
    area, aspect = (height + noise[0]) * (width + noise[1]) / 20_000, ((height + noise[0]) / (width + noise[1])).log()
    assert area.min() > 0.018 and area.max() < 0.107 and abs(area.mean() - 0.06) < 0.002
    assert abs(aspect.mean()) < 0.03 and abs(aspect.std() - 2 * math.log(2) / 12**0.5) < 0.02
    for first, size, side in ((new["erasing"]["ys"], height, 200), (new["erasing"]["xs"], width, 100)):
        assert evenly((first + torch.rand(4000)) / (side - size + 1), 0.0, 1.0)


def test_the_pixels_of_a_preset_follow_the_rules_of_0_1():
    """With everything but gray values frozen: c (x + b) + (1 - c) (mean + b), clamped, then the exponent."""
    config = OmegaConf.load(CONF / "strong.yaml")
    for name in ("flip", "rotation", "affine", "noise", "erasing"):
        config.ops[name] = None
    augment, image = augmentation(config, 32), torch.rand(9, 1, 32, 32)
    torch.manual_seed(1)
    changed = augment(image)
    torch.manual_seed(1)
    b, c, g = (
        augment.operations[name].forward_parameters(image.shape)[f"{name}_factor"].view(-1, 1, 1, 1)
        for name in ("brightness", "contrast", "gamma")
    )
    b, mean = b - 1, image.mean((1, 2, 3), keepdim=True)
    expected = (c * (image + b) + (1 - c) * (mean + b)).clamp(0, 1) ** g
    torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0)


def test_none_is_only_the_conversion():
    image = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(preset("none")(image), image / 255)


def test_presets_are_fused_to_one_warp_and_one_pass():
    for name in OLD:
        assert [[s.kind for s in run] for run in preset(name).runs] == [["warp", "pixels"]]


def test_operations_without_a_matrix_may_be_used():
    elastic = one(_target_="kornia.augmentation.RandomElasticTransform", kernel_size=[5, 5], sigma=[2.0, 2.0], p=0.5)
    assert isinstance(elastic, ka.RandomElasticTransform)


def test_lists_of_a_config_become_tuples_and_null_leaves_out():
    light = one(_target_="kornia.augmentation.RandomLinearIllumination", gain=[0.1, 0.2], p=1.0)
    assert isinstance(light, ka.RandomLinearIllumination)
    assert not augmentation({"ops": {"flip": None}}, 32).operations
    assert isinstance(augmentation({"ops": None}, 32), FusedAugmentation)


def test_making_and_trying_draw_no_random_number_of_the_run():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    preset("strong")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("target", sorted(KORNIA))
def test_what_a_run_folder_may_name_exists(target):
    module, name = target.rsplit(".", 1)
    made = getattr(ka if module == "kornia.augmentation" else package, name)
    assert issubclass(made, ka.AugmentationBase2D)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"_target_": "kornia.augmentation.RandomGausianBlur"},
         r"augment.ops.one._target_=kornia.augmentation.RandomGausianBlur: there is no such operation; did you mean "
         r"'kornia.augmentation.RandomGaussianBlur'\?"),
        ({"_target_": "nowhere.Blur"}, "augment.ops.one._target_=nowhere.Blur: there is no such operation"),
        ({"_target_": "torch.nn.Dropout"}, "torch.nn.Dropout: is no 2D augmentation of Kornia"),
        ({"_target_": "kornia.augmentation.RandomMixUpV2"}, "type mix=mixup or mix=cutmix"),
        ({"p": 0.5}, "augment.ops.one: has no _target_; type e.g. augment.ops.one="),
        ({"_target_": "kornia.augmentation.RandomHue", "hue": 0.1},
         "augment.ops.one: RandomHue cannot run on gray pictures of 32 x 32: "),
        ({"_target_": "kornia.augmentation.RandomGamma", "gama": [1, 2]},
         r"augment.ops.one.gama: kornia.augmentation.RandomGamma has no such argument; did you mean 'gamma'\?"),
        ({"_target_": "kornia.augmentation.RandomAffine", "degrees": -5},
         "augment.ops.one: kornia.augmentation.RandomAffine refuses its arguments: If degrees is a single number"),
        ({"_target_": "kornia.augmentation.RandomAffine"}, "refuses its arguments: .*degrees"),
        ({"_target_": "kornia.augmentation.RandomErasing", "value": 3}, "refuses its arguments: 'value' must be"),
        ({"_target_": "kornia.augmentation.RandomHorizontalFlip", "p": 1.5}, "augment.ops.one.p=1.5: must be a number"),
        ({"_target_": "kornia.augmentation.RandomResizedCrop", "size": [8, 8], "p": 0.5}, "changes the size"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(arguments, line):
    with pytest.raises(InputError, match=line) as caught:
        one(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"_target_": "koa_lightning.augment.KneeAugment", "flip": 0.5}, "is from version 0.1; type augment=light"),
        ({"rotation": 5.0}, "augment.rotation: is a key of version 0.1; .*augment.ops.rotation.degrees=10"),
        ({"opps": {}}, "augment.opps: only augment.ops exists"),
    ],
)
def test_a_config_of_0_1_is_told_what_to_type(config, line):
    with pytest.raises(InputError, match=line):
        augmentation(config, 32)
