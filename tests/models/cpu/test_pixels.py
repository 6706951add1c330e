import subprocess
import sys

import pytest
import torch

from koa_lightning.models.cpu import pixels


def image(n=2, channels=3, height=4, width=5, dtype=torch.float32, last=True):
    made = torch.arange(n * channels * height * width).reshape(n, channels, height, width).to(dtype)
    return made.to(memory_format=torch.channels_last) if last else made


@pytest.mark.skipif(sys.platform != "linux", reason="the loops are for Linux")
def test_which_images_are_worth_the_loops(monkeypatch):
    monkeypatch.setattr(pixels, "LARGE", 2 * 3 * 4 * 5)
    assert pixels.suited(image())  # exactly as many numbers as are wanted
    assert pixels.suited(image(dtype=torch.bfloat16))
    assert not pixels.suited(image(width=4))
    assert not pixels.suited(image(last=False))
    assert not pixels.suited(image(dtype=torch.float64))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not pixels.suited(image())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_share_the_memory_of_the_image(dtype):
    given = image(dtype=dtype)
    array, flat = pixels.of(given), pixels.rows(given)
    assert (array.shape, flat.shape) == ((2, 4, 5, 3), (40, 3))
    assert array.dtype == ("uint16" if dtype == torch.bfloat16 else "float32")
    flat[0, 2] = 0
    assert given[0, 2, 0, 0] == 0
    expected = given.permute(0, 2, 3, 1)
    assert torch.equal(torch.from_numpy(array).view(dtype), expected)


def test_a_gradient_is_not_in_the_way():
    assert pixels.rows(image().requires_grad_()).shape == (40, 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the loops are for Linux")
def test_loading_the_loops_leaves_torch_its_threads():
    code = (
        "import torch; torch.set_num_threads(1); from koa_lightning.models.cpu import pixels; pixels.loops();"
        "import numba; print(torch.get_num_threads(), numba.get_num_threads())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["1", "1"]
