"""Depthwise convolutions that train faster: the same outputs, and the same gradients to rounding."""

import copy
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from koa_lightning.models.cpu import depthwise
from koa_lightning.models.cpu.depthwise import backward_where_fast, in_fp32
from koa_lightning.models.net import NetSpec, build


def depthwise_of(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


def gradients(net, image):
    image = image.clone().requires_grad_()
    out = net(image)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    found = torch.autograd.grad((out * weights).sum(), [image, *net.parameters()])
    return [out.detach(), *found]


def assert_the_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max() + 1))


def test_depthwise_layers_are_counted_and_made_once():
    net = build(NetSpec("test_efficientnet"))
    n = len(depthwise_of(net))
    assert in_fp32(net) == in_fp32(net) == n > 0
    assert {type(m).__name__ for m in depthwise_of(net)} == {"Conv2dInFp32"}
    assert in_fp32(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2))) == 0


def test_tensorflow_padding_stays():
    net = build(NetSpec("tf_efficientnet_lite0")).eval()
    image = torch.randn(2, 1, 33, 32, generator=torch.Generator().manual_seed(0))
    wanted = net(image)
    assert in_fp32(net) == 16
    assert torch.equal(net(image), wanted)


@settings(max_examples=40)
@given(
    kernel=st.sampled_from([(3, 3), (5, 5), (7, 7), (3, 5), (5, 3), (4, 6)]),
    stride=st.sampled_from([1, 2, 3]),
    padding=st.sampled_from([0, 1, 2, "own"]),
    height=st.integers(8, 13),
    width=st.integers(8, 13),
    same=st.booleans(),
)
def test_a_depthwise_convolution_has_torchs_gradients(kernel, stride, padding, height, width, same):
    torch.manual_seed(0)
    padding = tuple(k // 2 for k in kernel) if padding == "own" else padding
    kind = Conv2dSame if same else nn.Conv2d
    plain = kind(6, 6, kernel, stride, padding, groups=6, bias=False)
    fast = copy.deepcopy(plain)
    in_fp32(fast)
    image = torch.randn(3, 6, height, width).to(memory_format=torch.channels_last)
    assert_the_same(gradients(fast, image), gradients(plain, image))


@pytest.mark.parametrize("side", [1, 2, 3])
@pytest.mark.parametrize("kernel", [7, 9, 11])
def test_a_kernel_that_is_larger_than_the_image(kernel, side):
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, kernel, padding=kernel // 2, groups=6, bias=False)
    fast = copy.deepcopy(plain)
    in_fp32(fast)
    image = torch.randn(3, 6, side, side).to(memory_format=torch.channels_last)
    assert_the_same(gradients(fast, image), gradients(plain, image))


@settings(max_examples=25)
@given(kernel=st.sampled_from([3, 5, 7]), stride=st.sampled_from([1, 2]), side=st.integers(8, 12), same=st.booleans())
def test_in_bf16_the_gradients_are_those_of_rounded_images(kernel, stride, side, same):
    torch.manual_seed(0)
    kind = Conv2dSame if same else nn.Conv2d
    plain = kind(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    fast = copy.deepcopy(plain)
    backward_where_fast(fast)
    image = torch.randn(3, 6, side, side).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        out, of_image, of_weight = gradients(fast, image)
    wanted_out, wanted_image, wanted_weight = gradients(plain, image)
    assert out.dtype == torch.bfloat16 and of_weight.dtype == torch.float32
    torch.testing.assert_close(out.float(), wanted_out, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(of_image, wanted_image, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(of_weight, wanted_weight, rtol=1e-2, atol=1e-2 * float(wanted_weight.abs().max()))
    assert torch.equal(fast(image), plain(image))  # without autocast nothing is rounded


@pytest.mark.parametrize(
    "options",
    [{"bias": True}, {"dilation": 2}, {"padding_mode": "reflect"}, {"padding": "same"}, {"out_channels": 12}],
    ids=str,
)
def test_what_it_does_not_know_stays_torchs(options, monkeypatch):
    monkeypatch.setattr(depthwise._Depthwise, "apply", lambda *_: pytest.fail("not for these"))
    given = {"in_channels": 6, "out_channels": 6, "kernel_size": 5, "groups": 6, "bias": False, "padding": 2, **options}
    plain = nn.Conv2d(**given)
    image = torch.randn(2, 6, 12, 12)
    for swap in (in_fp32, backward_where_fast):
        fast = copy.deepcopy(plain)
        assert swap(fast) == 1
        assert_the_same(gradients(fast, image), gradients(plain, image))


def test_a_resting_layer_gets_no_gradient():
    conv = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    in_fp32(conv)
    conv.weight.requires_grad_(False)
    image = torch.randn(1, 4, 8, 8, requires_grad=True)
    conv(image).sum().backward()
    assert conv.weight.grad is None and image.grad is not None
    conv.weight.requires_grad_(True)
    conv(image.detach()).sum().backward()
    assert conv.weight.grad is not None


@settings(max_examples=25)
@given(
    kernel=st.sampled_from([(3, 3), (5, 5), (3, 5), (5, 3)]),
    stride=st.sampled_from([1, 2]),
    channels=st.sampled_from([16, 48]),
    side=st.sampled_from([8, 9, 33, 66]),
    same=st.booleans(),
)
def test_in_blocks_the_gradients_are_the_same(kernel, stride, channels, side, same):
    torch.manual_seed(0)
    kind = Conv2dSame if same else nn.Conv2d
    plain = kind(channels, channels, kernel, stride, tuple(k // 2 for k in kernel), groups=channels, bias=False)
    plain.weight.data = plain.weight.data.bfloat16().float()
    fast = copy.deepcopy(plain)
    backward_where_fast(fast)
    image = torch.randn(2, channels, side, side).bfloat16().float().to(memory_format=torch.channels_last)
    with (
        torch.autocast("cpu", torch.bfloat16),
        mock.patch.object(depthwise, "_has_matrix_units", lambda: True),
        mock.patch.object(depthwise, "_in_blocks", wraps=depthwise._in_blocks) as blocks,
    ):
        _, of_image, of_weight = gradients(fast, image)
    height = -(-side // stride)
    assert [call.args[5] for call in blocks.call_args_list] == ([] if height < 8 else [channels if height > 32 else 16])
    _, wanted_image, wanted_weight = gradients(plain, image)
    assert of_weight.dtype == torch.float32 and of_weight.shape == wanted_weight.shape
    for found, wanted in ((of_image, wanted_image), (of_weight, wanted_weight)):
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=1e-2 * float(wanted.abs().max()))


@pytest.mark.parametrize("channels", [16, 20])
def test_blocks_are_for_matrix_units_and_whole_blocks(channels, monkeypatch):
    monkeypatch.setattr(depthwise, "_in_blocks", lambda *_: pytest.fail("no blocks here"))
    monkeypatch.setattr(depthwise, "_has_matrix_units", lambda: channels == 20)
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    backward_where_fast(conv)
    with torch.autocast("cpu", torch.bfloat16):
        conv(torch.randn(1, channels, 12, 12, requires_grad=True)).float().sum().backward()
    assert conv.weight.grad is not None
