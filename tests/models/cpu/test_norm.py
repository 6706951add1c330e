"""Batch norm with its activation in one pass: what PyTorch computes for the two, to rounding."""

import copy
import sys

import pytest
import timm
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from koa_lightning.models.cpu import activations, norm, pixels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the joint layers are for Linux")
ACTIVATIONS = {"none": nn.Identity, "silu": nn.SiLU, "relu6": nn.ReLU6}


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch):
    monkeypatch.setattr(pixels, "LARGE", 0)


def layer(activation, channels):
    made = BatchNormAct2d(channels, act_layer=ACTIVATIONS[activation], inplace=False)
    if activation == "none":
        made.act = nn.Identity()
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1.5, 2, channels))
        made.bias.copy_(torch.linspace(1, -1, channels))
        made.running_mean.copy_(torch.linspace(-3, 3, channels))
    return made


def image(channels=5, size=(7, 9), offset=0.0):
    made = torch.randn(3, channels, *size, generator=torch.Generator().manual_seed(0)) * 4 + offset
    return made.to(memory_format=torch.channels_last)


def run(net, picture):
    leaf = picture.clone().requires_grad_()
    out = net(leaf)
    weights = torch.arange(1, out.numel() + 1).double().sin().add(0.1).bfloat16().to(out.dtype)
    (out * weights.view(out.shape)).sum().backward()
    return [out.detach(), leaf.grad, net.weight.grad, net.bias.grad, net.running_mean, net.running_var]


@pytest.mark.sample(8)
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("channels", [1, 5, 24])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_gradients_and_running_moments_are_torchs(activation, channels, offset):
    exact, joint = layer(activation, channels).double(), layer(activation, channels)
    assert norm.join_activations(joint) == norm.join_activations(joint) == 1
    assert list(joint.state_dict()) == list(exact.state_dict())
    picture = image(channels, offset=offset)
    for found, wanted in zip(run(joint, picture), run(exact, picture.double()), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), wanted, rtol=2e-5, atol=3e-5 * float(wanted.abs().max()))
    assert joint.num_batches_tracked == exact.num_batches_tracked == 1


@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_bf16_it_rounds_no_more_than_torch(activation, offset):
    exact, plain, joint = layer(activation, 24).double(), layer(activation, 24), layer(activation, 24)
    norm.join_activations(joint)
    picture = image(24, offset=offset).bfloat16()
    wanted = run(exact, picture.double())
    torchs, ours = run(plain, picture), run(joint, picture)
    assert [each.dtype for each in ours] == [each.dtype for each in torchs]
    for found, theirs, true in zip(ours, torchs, wanted, strict=True):
        assert (found - true).norm() <= 1.05 * (theirs - true).norm() + 1e-5 * true.norm()


@pytest.mark.slow
def test_bf16_is_rounded_as_torch_rounds_it():
    from koa_lightning.models.cpu import kernels

    some = torch.randn(4096, generator=torch.Generator().manual_seed(0)).view(torch.int32)
    ties = torch.arange(4096, dtype=torch.int32) * (1 << 15) + 0x3F000000
    special = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3.4e38, -3.4e38, 1e-40, 1e-45])
    values = torch.cat([some.view(torch.float32), ties.view(torch.float32), special])
    values = torch.cat([values, torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)])  # NaN as well
    one, zero = torch.ones(1).numpy(), torch.zeros(1).numpy()
    found = torch.empty(len(values), dtype=torch.bfloat16)
    kernels.activate(values.numpy()[:, None], one, zero, activations.NONE, found.view(torch.uint16).numpy()[:, None])
    torch.testing.assert_close(found, values.bfloat16(), rtol=0, atol=0, equal_nan=True)
    back = torch.empty(len(values))
    kernels.activate(found.view(torch.uint16).numpy()[:, None], one, zero, activations.NONE, back.numpy()[:, None])
    torch.testing.assert_close(back, found.float(), rtol=0, atol=0, equal_nan=True)


def test_the_sigmoid_is_exact_to_rounding_and_in_its_tails():
    from koa_lightning.models.cpu import kernels

    values = torch.cat([torch.linspace(-100, 100, 20001), torch.linspace(-1e-3, 1e-3, 101), torch.tensor([0.0])])
    rows, out = values.numpy()[:, None], torch.empty(len(values), 1)
    one, zero = torch.ones(1).numpy(), torch.zeros(1).numpy()
    kernels.activate(rows, one, zero, activations.SILU, out.numpy())
    torch.testing.assert_close(out[:, 0].double(), nn.functional.silu(values.double()), rtol=5e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_what_is_not_a_number_does_not_pass_for_one(activation, bad, dtype):
    joint = layer(activation, 5)
    norm.join_activations(joint)
    picture = image().to(dtype)
    picture[1, 2, 3, 4] = bad
    plain = layer(activation, 5)
    found, wanted = (run(net, picture)[:4] for net in (joint, plain))
    for ours, theirs in zip(found, wanted, strict=True):
        assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_frozen_parameters_and_images_get_no_gradient():
    joint = layer("silu", 5)
    norm.join_activations(joint)
    joint.weight.requires_grad_(False)
    joint(image()).sum().backward()
    assert joint.weight.grad is None and joint.bias.grad is not None


@pytest.mark.parametrize("case", ["eval", "no gradient", "fp64", "contiguous", "small"])
def test_elsewhere_the_layer_is_timms(case, monkeypatch):
    plain, joint = layer("silu", 5), layer("silu", 5)
    norm.join_activations(joint)
    picture = image()
    monkeypatch.setattr(norm._NormAct, "apply", None)
    if case == "eval":
        plain.eval(), joint.eval()
    elif case == "fp64":
        picture = picture.double()
        plain.double(), joint.double()
    elif case == "contiguous":
        picture = picture.contiguous()
    elif case == "small":
        monkeypatch.setattr(pixels, "LARGE", picture.numel() + 1)
    with torch.set_grad_enabled(case != "no gradient"):
        assert torch.equal(joint(picture), plain(picture))


def test_layers_that_it_does_not_know_stay():
    net = nn.Sequential(nn.BatchNorm2d(3), BatchNormAct2d(3, act_layer=nn.GELU), BatchNormAct2d(3, act_layer=nn.SiLU))
    kinds = [type(module) for module in net]
    assert norm.join_activations(net) == 1
    assert [type(module) for module in net][:2] == kinds[:2]


@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_trains_as_it_did(bf16):
    torch.manual_seed(0)
    plain = timm.create_model("test_efficientnet", in_chans=1, num_classes=5).to(memory_format=torch.channels_last)
    joint = copy.deepcopy(plain)
    assert norm.join_activations(joint) > 0
    picture = torch.randn(4, 1, 48, 48).to(memory_format=torch.channels_last)

    def train(net):
        net.train()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        losses = []
        for _ in range(4):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = net(picture).float()
            loss = nn.functional.cross_entropy(logits, torch.arange(4))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    allowed = 3e-2 if bf16 else 1e-4
    torch.testing.assert_close(train(joint), train(plain), rtol=allowed, atol=allowed)
    copied = copy.deepcopy(joint)
    assert [type(m) for m in copied.modules()] == [type(m) for m in joint.modules()]


def test_one_thread_and_two_agree():
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            joint = layer("silu", 5)
            norm.join_activations(joint)
            found.append(run(joint, image()))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)
