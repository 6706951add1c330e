import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import resize

from koa_lightning.errors import InputError
from koa_lightning.training.resizing import STEP, Resize


def noise(side=64):
    return torch.randint(0, 256, (3, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_full_size_is_left_as_it_is():
    image = noise()
    assert Resize()(image) is image
    assert Resize(first=0.5, last=1.0, until=0.5)(image, 0.5) is image


def test_a_smaller_picture_is_torchvisions():
    small = Resize(first=0.5)(noise(), 0.0)
    wanted = resize(noise().float() / 255, [32, 32], antialias=True)
    assert small.shape == (3, 1, 32, 32)
    assert torch.allclose(small, wanted, atol=1e-6)


def test_the_sizes_of_a_run_by_hand():
    grow = Resize(first=0.5, last=1.0, until=0.5)
    assert [grow.size(224, epoch / 10) for epoch in range(10)] == [112, 128, 160, 176, 208, 224, 224, 224, 224, 224]
    assert Resize(first=1.0, last=0.75, until=0).size(256, 0.0) == 192
    assert Resize(first=0.5).size(224, 0.0) == 112


@given(st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1), st.integers(16, 512), st.floats(0, 0.999))
def test_sizes_stay_within_the_full_one(first, last, until, full, progress):
    side = Resize(first, last, until).size(full, progress)
    assert STEP <= side <= full
    assert side == full or side % STEP == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [({"first": 0}, "first"), ({"last": 1.1}, "last"), ({"until": -1}, "until"), ({"until": float("nan")}, "until")],
)
def test_values_out_of_range_are_named(options, named):
    with pytest.raises(InputError, match=rf"resize\.{named}="):
        Resize(**options)
