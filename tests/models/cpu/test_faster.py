"""Layers that train faster: the same outputs, and the same gradients to rounding."""

import copy

import pytest
import timm
import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import nn

from koa_lightning.models.cpu import faster, pixels
from koa_lightning.models.cpu.depthwise import in_fp32
from koa_lightning.models.cpu.faster import spare_squeeze


def gradients(run, image, net=None):
    image = image.clone().requires_grad_()
    out = run(image)
    weights = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    found = torch.autograd.grad((out * weights).sum(), [image, *(net or run).parameters()])
    return [out.detach(), *found]


def assert_the_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max() + 1))


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("rests", ["", "conv_expand", "image", "all"])
def test_squeeze_and_excitation_has_torchs_gradients(rests, large, monkeypatch):
    if large:
        monkeypatch.setattr(pixels, "LARGE", 0)
    torch.manual_seed(0)
    plain = SqueezeExcite(8, rd_channels=4, act_layer=nn.SiLU)
    fast = copy.deepcopy(plain)
    assert spare_squeeze(fast) == spare_squeeze(fast) == 1
    assert list(fast.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 8, 5, 7).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert_the_same([fast(image)], [plain(image)])

    def run(net):
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(rests != "all" and not (rests and name.startswith(rests)))
        leaf = image.clone().requires_grad_(rests != "image")
        wanted = [leaf, *net.parameters()]
        (net(leaf) * torch.linspace(-1, 1, image.numel()).reshape(image.shape)).sum().backward()
        return [each.grad for each in wanted]

    found, expected = run(fast), run(plain)
    assert [each is None for each in found] == [each is None for each in expected]
    assert_the_same(*([each for each in side if each is not None] for side in (found, expected)))


@pytest.mark.sample(2)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_products_are_summed_up_whatever_the_layout(memory, dtype, monkeypatch):
    monkeypatch.setattr(pixels, "LARGE", 0)
    torch.manual_seed(0)
    image = torch.randn(3, 5, 9, 11).to(dtype, memory_format=torch.channels_last)
    gradient = torch.randn(3, 5, 9, 11).to(dtype, memory_format=memory)
    wanted = (image.double() * gradient.double()).sum((2, 3), keepdim=True)
    exact = dtype == torch.float32 or memory == torch.channels_last  # elsewhere torch rounds what it sums up
    allowed = 1e-5 if exact else 3e-2
    torch.testing.assert_close(faster._products(gradient, image).double(), wanted, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("large", [False, True])
def test_in_bf16_squeeze_and_excitation_rounds_no_more_than_torch(large, monkeypatch):
    if large:
        monkeypatch.setattr(pixels, "LARGE", 0)
    torch.manual_seed(0)
    exact = SqueezeExcite(16, rd_channels=4, act_layer=nn.SiLU)
    plain, fast = copy.deepcopy(exact), copy.deepcopy(exact)
    spare_squeeze(fast)
    image = torch.randn(2, 16, 30, 31).bfloat16().float().add(1).to(memory_format=torch.channels_last)
    wanted = gradients(exact, image)
    with torch.autocast("cpu", torch.bfloat16):
        found, theirs = (gradients(lambda x, net=net: net(x.bfloat16()), image, net) for net in (fast, plain))
    for ours, torchs, true in zip(found, theirs, wanted, strict=True):
        assert (ours - true).norm() <= 1.5 * (torchs - true).norm() + 2e-3 * true.norm()


def test_a_whole_network_has_the_gradients_it_had():
    torch.manual_seed(0)
    plain = timm.create_model("test_efficientnet", in_chans=1, num_classes=5).double().eval()
    fast = copy.deepcopy(plain).float()
    assert spare_squeeze(fast) > 0 and in_fp32(fast) > 0
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
