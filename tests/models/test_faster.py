"""Layers that train faster: the same outputs, and the same gradients to rounding."""

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

from koa_lightning.models import faster
from koa_lightning.models.faster import depthwise_backward_in_fp32, depthwise_in_fp32, spare_squeeze
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
    assert depthwise_in_fp32(net) == depthwise_in_fp32(net) == n > 0
    assert {type(m).__name__ for m in depthwise_of(net)} == {"Conv2dInFp32"}
    assert depthwise_in_fp32(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2))) == 0


def test_tensorflow_padding_stays():
    net = build(NetSpec("tf_efficientnet_lite0")).eval()
    image = torch.randn(2, 1, 33, 32, generator=torch.Generator().manual_seed(0))
    wanted = net(image)
    assert depthwise_in_fp32(net) == 16
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
    depthwise_in_fp32(fast)
    image = torch.randn(3, 6, height, width).to(memory_format=torch.channels_last)
    assert_the_same(gradients(fast, image), gradients(plain, image))


@settings(max_examples=25)
@given(kernel=st.sampled_from([3, 5, 7]), stride=st.sampled_from([1, 2]), side=st.integers(8, 12), same=st.booleans())
def test_in_bf16_the_gradients_are_those_of_rounded_images(kernel, stride, side, same):
    torch.manual_seed(0)
    kind = Conv2dSame if same else nn.Conv2d
    plain = kind(6, 6, kernel, stride, kernel // 2, groups=6, bias=False)
    fast = copy.deepcopy(plain)
    depthwise_backward_in_fp32(fast)
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
    monkeypatch.setattr(faster._Depthwise, "apply", lambda *_: pytest.fail("not for these"))
    given = {"in_channels": 6, "out_channels": 6, "kernel_size": 5, "groups": 6, "bias": False, "padding": 2, **options}
    plain = nn.Conv2d(**given)
    image = torch.randn(2, 6, 12, 12)
    for swap in (depthwise_in_fp32, depthwise_backward_in_fp32):
        fast = copy.deepcopy(plain)
        assert swap(fast) == 1
        assert_the_same(gradients(fast, image), gradients(plain, image))


def test_a_resting_layer_gets_no_gradient():
    conv = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    depthwise_in_fp32(conv)
    conv.weight.requires_grad_(False)
    image = torch.randn(1, 4, 8, 8, requires_grad=True)
    conv(image).sum().backward()
    assert conv.weight.grad is None and image.grad is not None
    conv.weight.requires_grad_(True)
    conv(image.detach()).sum().backward()
    assert conv.weight.grad is not None


def test_squeeze_and_excitation_has_torchs_gradients():
    torch.manual_seed(0)
    plain = SqueezeExcite(8, rd_channels=4, act_layer=nn.SiLU)
    fast = copy.deepcopy(plain)
    assert spare_squeeze(fast) == spare_squeeze(fast) == 1
    image = torch.randn(2, 8, 5, 7).to(memory_format=torch.channels_last)
    assert_the_same(gradients(fast, image), gradients(plain, image))


def test_a_whole_network_has_the_gradients_it_had():
    torch.manual_seed(0)
    plain = timm.create_model("test_efficientnet", in_chans=1, num_classes=5).double().eval()
    fast = copy.deepcopy(plain).float()
    assert spare_squeeze(fast) > 0 and depthwise_in_fp32(fast) > 0
    assert list(fast.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 1, 48, 48, dtype=torch.float64)
    wanted, found = gradients(plain, image), gradients(fast, image.float())
    for a, b in zip(found, wanted, strict=True):
        assert torch.cosine_similarity(a.double().flatten(), b.flatten(), dim=0) > 1 - 1e-6


@pytest.mark.parametrize("made", [nn.ReLU6, nn.SiLU])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_in_place_have_torchs_gradients_without_a_copy(made, dtype):
    image = torch.tensor([-7.0, -1.0, 0.0, 0.5, 5.9, 6.0, 9.0]).to(dtype)
    plain, spare = (nn.Sequential(nn.Identity(), made(inplace=True)) for _ in range(2))
    assert faster.spare_activations(spare) == 1

    def run(net):
        leaf = image.clone().requires_grad_()
        out = net(leaf * 1)
        return out.detach(), *torch.autograd.grad(out.float().square().sum(), leaf)

    for a, b in zip(run(spare), run(plain), strict=True):
        assert torch.equal(a, b)

    def copies(net):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            run(net)
        return sum(event.name == "aten::clone" for event in profile.events())

    assert copies(spare) < copies(plain)
    assert [type(copy.deepcopy(spare)[1]), spare[1].inplace] == [type(spare[1]), made is nn.ReLU6]


def test_activations_that_do_not_work_in_place_stay():
    net = nn.Sequential(nn.ReLU6(), nn.SiLU(), nn.ReLU(inplace=True))
    assert faster.spare_activations(net) == 0
    assert [type(m) for m in net] == [nn.ReLU6, nn.SiLU, nn.ReLU]
