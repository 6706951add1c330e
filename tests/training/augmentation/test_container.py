"""The container against Kornia's own, operation by operation, with the same random numbers."""

import pytest
import torch
from kornia import augmentation as ka

from koa_lightning.errors import InputError
from koa_lightning.training.augmentation import (
    FusedAugmentation,
    RandomCollimation,
    RandomDetectorNoise,
    RandomExposureCurve,
    RandomMeanContrast,
    RandomMeanErasing,
    container,
    pixels,
)

# How much a single interpolation may differ by, and two after one another (Kornia) from one.
ROUNDING, INTERPOLATION = 2e-4, 0.02
GEOMETRIC = {
    "flip": lambda **o: ka.RandomHorizontalFlip(**o),
    "vertical flip": lambda **o: ka.RandomVerticalFlip(**o),
    "rotation": lambda **o: ka.RandomRotation(25.0, **o),
    "quarter turns": lambda **o: ka.RandomRotation90((-3, 3), **o),
    "affine": lambda **o: ka.RandomAffine(20.0, translate=(0.1, 0.2), scale=(0.8, 1.3), shear=10.0, **o),
    "affine, border": lambda **o: ka.RandomAffine(20.0, translate=(0.1, 0.2), padding_mode="border", **o),
    "affine, reflection": lambda **o: ka.RandomAffine(
        20.0, translate=(0.1, 0.2), padding_mode="reflection", align_corners=True, **o
    ),
    "affine, filled": lambda **o: ka.RandomAffine(20.0, padding_mode="fill", fill_value=torch.tensor([0.3]), **o),
    "affine, bicubic": lambda **o: ka.RandomAffine(20.0, resample="bicubic", **o),
    "shear": lambda **o: ka.RandomShear((-15.0, 15.0, -10.0, 10.0), **o),
    "translate": lambda **o: ka.RandomTranslate((-0.1, 0.2), (-0.2, 0.1), **o),
    "perspective": lambda **o: ka.RandomPerspective(0.4, **o),
}
ELEMENT_WISE = {
    "brightness": lambda **o: ka.RandomBrightness((0.7, 1.3), **o),
    "brightness, open": lambda **o: ka.RandomBrightness((0.7, 1.3), clip_output=False, **o),
    "contrast": lambda **o: ka.RandomContrast((0.7, 1.3), **o),
    "contrast, open": lambda **o: ka.RandomContrast((0.7, 1.3), clip_output=False, **o),
    "invert": lambda **o: ka.RandomInvert(**o),
    "invert, tensor": lambda **o: ka.RandomInvert(torch.tensor(0.8), **o),
    "gamma": lambda **o: ka.RandomGamma((0.5, 2.0), (0.8, 1.5), **o),
    "noise": lambda **o: ka.RandomGaussianNoise(0.05, 0.1, **o),
    "erasing": lambda **o: ka.RandomErasing((0.02, 0.3), value=0.4, **o),
    "mean contrast": lambda **o: RandomMeanContrast((0.5, 1.6), **o),
    "exposure curve": lambda **o: RandomExposureCurve((-1.0, 2.0), **o),
    "detector noise": lambda **o: RandomDetectorNoise((0.0, 0.1), **o),
    "mean erasing": lambda **o: RandomMeanErasing((0.02, 0.3), **o),
    "collimation": lambda **o: RandomCollimation((0.0, 0.2), 0.1, **o),
}
ALONE = {
    "blur": lambda **o: ka.RandomGaussianBlur((5, 5), (0.1, 2.0), **o),
    "box blur": lambda **o: ka.RandomBoxBlur((3, 3), **o),
    "median blur": lambda **o: ka.RandomMedianBlur((3, 3), **o),
    "motion blur": lambda **o: ka.RandomMotionBlur(3, 35.0, 0.5, **o),
    "sharpness": lambda **o: ka.RandomSharpness(0.8, **o),
    "equalize": lambda **o: ka.RandomEqualize(**o),
    "clahe": lambda **o: ka.RandomClahe(clip_limit=(1.0, 20.0), grid_size=(2, 2), **o),
    "posterize": lambda **o: ka.RandomPosterize(3, **o),
    "solarize": lambda **o: ka.RandomSolarize(0.2, 0.2, **o),
    "auto contrast": lambda **o: ka.RandomAutoContrast(**o),
    "salt and pepper": lambda **o: ka.RandomSaltAndPepperNoise(**o),
    "gaussian light": lambda **o: ka.RandomGaussianIllumination(**o),
    "linear light": lambda **o: ka.RandomLinearIllumination(**o),
    "corner light": lambda **o: ka.RandomLinearCornerIllumination(**o),
    "elastic": lambda **o: ka.RandomElasticTransform((9, 9), (3.0, 3.0), (0.5, 0.5), **o),
    "thin plate": lambda **o: ka.RandomThinPlateSpline(**o),
}
ALL = GEOMETRIC | ELEMENT_WISE | ALONE
SIZES = [(7, 40, 40), (5, 33, 48), (1, 24, 31)]


def pictures(n=7, height=40, width=40):
    """Slow waves without any symmetry, uint8: a wrong sign or order shows, interpolation hardly does."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    phase = torch.arange(n).view(n, 1, 1)
    wave = 0.5 + 0.3 * torch.sin(5 * x + 2 * y + phase) + 0.2 * torch.cos(7 * y - 3 * x * x)
    return wave.mul(255).round().byte().unsqueeze(1)


def both(image, *operations, seed=0):
    """Return what the container and what Kornia make of a batch by the same random numbers."""
    torch.manual_seed(seed)
    ours = FusedAugmentation({str(i): operation for i, operation in enumerate(operations)})(image)
    after = torch.rand(1)
    torch.manual_seed(seed)
    theirs = ka.AugmentationSequential(*operations, data_keys=["input"])(image.float() / 255)
    assert torch.equal(after, torch.rand(1)), "the container draws other numbers than Kornia"
    return ours, theirs


@pytest.mark.parametrize("same_on_batch", [False, True], ids=["each", "same"])
@pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ALL)
def test_one_operation_equals_kornia(name, p, same_on_batch):
    for seed, (n, height, width) in enumerate(SIZES):
        operation = ALL[name](p=p, same_on_batch=same_on_batch, keepdim=bool(seed % 2))
        ours, theirs = both(pictures(n, height, width), operation, seed=seed)
        assert ours.dtype == torch.float32 and ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs.clamp(0, 1), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("before", ["flip", "brightness, open", "contrast, open", "noise", "invert", "rotation"])
@pytest.mark.parametrize("after", ELEMENT_WISE)
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_two_operations_equal_kornia(before, after, p):
    ours, theirs = both(pictures(), ALL[before](p=p), ALL[after](p=p), seed=3)
    torch.testing.assert_close(ours, theirs.clamp(0, 1), atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("pair", [("rotation", "affine"), ("affine", "shear"), ("flip", "perspective"),
                                  ("perspective", "translate"), ("affine", "flip"), ("vertical flip", "flip"),
                                  ("affine, border", "rotation"), ("translate", "affine, reflection")])  # fmt: skip
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_consecutive_warps_equal_kornia_where_it_has_cut_nothing_off(pair, p):
    image = pictures(7, 96, 120)
    operations = [ALL[name](p=p) for name in pair]
    ours, theirs = both(image, *operations)
    kept = both(torch.full_like(image, 255), *operations)[1] > 0.9999
    assert kept.float().mean() > 0.3
    assert (ours - theirs)[kept].abs().max() < INTERPOLATION
    assert (ours - image / 255)[kept].abs().max() > 0.1


def test_many_operations_equal_kornia():
    names = ["flip", "brightness, open", "mean contrast", "gamma", "blur", "affine", "detector noise", "collimation"]
    ours, theirs = both(pictures(7, 64, 64), *(ALL[name](p=0.7) for name in names))
    torch.testing.assert_close(ours, theirs.clamp(0, 1), atol=1e-3, rtol=0)


def test_what_can_be_fused_is():
    kinds = lambda *names: [s.kind for run in FusedAugmentation({n: ALL[n]() for n in names}).runs for s in run]  # noqa: E731
    assert kinds("flip", "rotation", "affine", "perspective") == ["warp"]
    assert kinds("affine, border", "flip", "rotation") == ["warp", "warp"]
    assert kinds("flip", "brightness", "gamma", "blur", "noise") == ["warp", "pixels", "alone", "pixels"]
    assert kinds("affine, filled") == ["alone"]


class _Darker(ka.RandomBrightness):
    def apply_transform(self, input, params, flags, transform=None):
        return input * 0.5


def test_a_subclass_is_not_taken_for_its_base():
    image = pictures()
    ours, theirs = both(image, _Darker((0.9, 1.1)))
    assert torch.equal(ours, theirs) and ours.max() <= 0.5


@pytest.mark.parametrize("p", [0.2, 0.0])
@pytest.mark.parametrize("name", ["gamma", "blur"])
def test_a_probability_below_1_costs_only_the_rows_drawn(name, p, monkeypatch):
    seen, operation = [], ALL[name](p=p)
    plain = type(operation).apply_transform
    monkeypatch.setattr(operation, "apply_transform", lambda x, *a: seen.append(len(x)) or plain(operation, x, *a))
    torch.manual_seed(0)
    FusedAugmentation({"one": operation})(pictures(40))
    assert sum(seen) < 20 and (p > 0) == bool(seen)


@pytest.mark.parametrize("pixels", [1, 3 * 40 * 40])
def test_a_batch_changed_in_parts_is_the_same(pixels, monkeypatch):
    names = ("flip", "affine", "mean contrast", "erasing", "gamma")
    augment = FusedAugmentation({name: ALL[name](p=0.7) for name in names})
    whole = augment(pictures(), torch.Generator().manual_seed(1))
    monkeypatch.setattr(container, "CPU_PIXELS", pixels)
    torch.testing.assert_close(augment(pictures(), torch.Generator().manual_seed(1)), whole, atol=1e-6, rtol=0)


def test_nothing_is_only_the_conversion():
    image = pictures()
    assert torch.equal(FusedAugmentation({})(image), image / 255)
    assert FusedAugmentation({})(image / 255).data_ptr() != (image / 255).data_ptr()


@pytest.mark.parametrize("name", [None, "flip", "affine", "gamma", "erasing", "blur", "equalize"])
def test_the_batch_itself_stays_as_it_is(name):
    image = pictures() / 255
    before = image.clone()
    for p in (0.0, 0.5, 1.0):
        changed = FusedAugmentation({name: ALL[name](p=p)} if name else {})(image)
        changed.zero_()
        assert torch.equal(image, before)


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    image, augment = pictures(), FusedAugmentation({name: ALL[name](p=0.5) for name in ALL})
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = augment(image, torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(augment(image, torch.Generator().manual_seed(1)), first)
    generator = torch.Generator().manual_seed(2)
    one, two = augment(image, generator), augment(image, generator)
    assert not torch.equal(one, first) and not torch.equal(one, two)


def test_parameters_stay_on_the_cpu_and_nothing_is_saved():
    operation = ka.RandomRotation(10.0, p=1.0)
    augment = FusedAugmentation({"rotation": operation}).to("meta").half()
    assert operation.device == torch.device("cpu") and not augment.state_dict()
    assert augment.train()(pictures(), torch.Generator().manual_seed(0)).equal(
        augment.eval()(pictures(), torch.Generator().manual_seed(0))
    )


def test_compiled_it_gives_the_same():
    augment = FusedAugmentation({name: ALL[name](p=0.5) for name in ("flip", "affine", "gamma", "blur")})
    plain = augment(pictures(), torch.Generator().manual_seed(0))
    compiled = torch.compile(augment, backend="eager")
    assert torch.equal(compiled(pictures(), torch.Generator().manual_seed(0)), plain)


def test_autocast_changes_nothing():
    augment = FusedAugmentation({name: ALL[name](p=1.0) for name in ("affine", "mean contrast", "perspective", "blur")})
    plain = augment(pictures(), torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(pictures(), torch.Generator().manual_seed(0)), plain)


def test_sizes_may_change():
    ours, theirs = both(pictures(), ka.RandomResizedCrop((24, 30), p=1.0), ALL["affine"](p=1.0))
    assert ours.shape == (7, 1, 24, 30)
    torch.testing.assert_close(ours, theirs, atol=ROUNDING, rtol=0)


def test_an_empty_batch():
    augment = FusedAugmentation({name: ALL[name]() for name in ("flip", "gamma", "blur")})
    assert augment(pictures(0)).shape == (0, 1, 40, 40)


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
        FusedAugmentation({})(image)


@pytest.mark.parametrize("name", ["erasing", "mean erasing", "collimation"])
def test_rectangles_are_the_same_as_on_a_gpu(name, monkeypatch):
    """A GPU fills by a mask, as Kornia does; the CPU writes slices."""
    augment = FusedAugmentation({name: ALL[name](p=0.6)})
    sliced = augment(pictures(), torch.Generator().manual_seed(0))
    monkeypatch.setattr(pixels, "FILLS", ())
    torch.testing.assert_close(augment(pictures(), torch.Generator().manual_seed(0)), sliced, atol=1e-6, rtol=0)


class _HandsBack(ka.RandomGaussianBlur):
    """An operation that changes nothing and returns the very tensor that it was given."""

    def forward(self, image, params=None, **more):
        return image


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_batch_of_the_caller_stays_as_it_was(dtype):
    image = torch.full((2, 1, 8, 8), 3, dtype=dtype)  # as float outside [0, 1], so that clamping would show
    before = image.clone()
    out = FusedAugmentation({"same": _HandsBack((3, 3), (0.1, 1.0), p=1.0)})(image)
    assert torch.equal(image, before)
    assert out.dtype == torch.float32 and out.min() >= 0 and out.max() <= 1
    assert out.data_ptr() != image.data_ptr()
