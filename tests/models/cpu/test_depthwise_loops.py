"""Compiled gradients of depthwise convolutions against torch's, in every shape that a network may have."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from koa_lightning.models.cpu import depthwise, pixels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the loops run on Linux alone")


def wanted(image, weight, stride, padding, slope):
    image, weight = (v.double().requires_grad_() for v in (image, weight))
    out = F.conv2d(image, weight, None, stride, padding, 1, len(weight))
    return torch.autograd.grad(out, [image, weight], slope.double())


@settings(max_examples=60)
@given(
    kernel=st.sampled_from([(3, 3), (5, 5), (7, 7), (3, 5), (5, 3), (1, 2), (4, 6)]),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    channels=st.sampled_from([1, 6, 32, 100, 300]),
    size=st.tuples(st.integers(7, 21), st.integers(7, 21)),
    count=st.integers(1, 3),
    threads=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_gradients_are_torchs(kernel, stride, padding, channels, size, count, threads, dtype):
    rng = torch.Generator().manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        last = torch.channels_last
        image = torch.randn(count, channels, *size, generator=rng).to(dtype).contiguous(memory_format=last)
        weight = torch.randn(channels, 1, *kernel, generator=rng)
        shape = F.conv2d(image.float(), weight, None, stride, padding, 1, channels).shape
        slope = torch.randn(shape, generator=rng).to(dtype).contiguous(memory_format=last)
        of_image, of_weight = wanted(image, weight, stride, padding, slope)
        found = depthwise._of_weight_in_loops(slope, image, weight, stride, padding)
        assert found.dtype == torch.float32 and found.shape == weight.shape
        torch.testing.assert_close(found, of_weight.float(), rtol=1e-4, atol=1e-5 * float(of_weight.abs().max()))
        found = depthwise._of_image_in_loops(slope, image, weight, stride, padding)
        assert found.dtype == dtype and found.shape == image.shape
        rounding = 2**-8 if dtype == torch.bfloat16 else 1e-5
        most = float(of_image.abs().max())
        torch.testing.assert_close(found.float(), of_image.float(), rtol=rounding, atol=rounding * 1e-2 * most)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(bad):
    image = torch.zeros(1, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    image[0, 3, 4, 4] = bad
    slope = torch.ones(1, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    found = depthwise._of_weight_in_loops(slope, image, torch.ones(8, 1, 3, 3), (1, 1), (1, 1))
    assert not found[3].isfinite().any() and found[[0, 1, 2, 4, 5, 6, 7]].isfinite().all()
    found = depthwise._of_image_in_loops(image, image, torch.ones(8, 1, 3, 3), (1, 1), (1, 1))
    assert not found[0, 3, 3:6, 3:6].isfinite().any() and found[0, 4].isfinite().all()


@pytest.mark.parametrize(("kernel", "stride", "halves", "used"), [
    (3, 1, True, {"weight"}), (3, 2, True, {"weight", "image"}), (5, 1, True, {"weight"}),
    (3, 1, False, set()), (5, 1, False, {"weight"}), (5, 2, False, {"weight"}),
])  # fmt: skip
def test_they_are_used_where_they_are_faster(kernel, stride, halves, used, monkeypatch):
    monkeypatch.setattr(pixels, "LARGE", 0)
    monkeypatch.setattr(depthwise, "_has_matrix_units", lambda: False)
    seen = set()
    for name in ("weight", "image"):
        usual = getattr(depthwise, f"_of_{name}_in_loops")
        monkeypatch.setattr(depthwise, f"_of_{name}_in_loops", lambda *a, f=usual, name=name: seen.add(name) or f(*a))
    dtype = torch.bfloat16 if halves else torch.float32
    conv = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=False)
    image = torch.randn(2, 16, 18, 18).to(dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = depthwise._Depthwise.apply(image, conv.weight, (stride, stride), conv.padding)
    out.backward(torch.ones_like(out, memory_format=torch.contiguous_format))
    of_image, of_weight = wanted(image.detach(), conv.weight.detach(), stride, conv.padding, torch.ones_like(out))
    assert seen == used
    torch.testing.assert_close(conv.weight.grad, of_weight.float(), rtol=2e-2, atol=2e-2 * float(of_weight.abs().max()))
    torch.testing.assert_close(image.grad.float(), of_image.float(), rtol=2e-2, atol=2e-2 * float(of_image.abs().max()))
