import copy
import sys

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from koa_lightning.models.cpu import norm, pixels
from koa_lightning.models.net import NetSpec, build
from koa_lightning.models.plan import Plan


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build(NetSpec("test_efficientnet"))


@pytest.fixture
def image():
    return torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def depthwise_of(net):
    return [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]


def test_names_of_precisions():
    names = {p: Plan(p, True, "").lightning for p in ("fp32", "bf16", "bf16-hybrid", "fp16")}
    assert names == {"fp32": "32-true", "bf16": "bf16-mixed", "bf16-hybrid": "bf16-mixed", "fp16": "16-mixed"}


def test_hybrid_keeps_names_weights_and_numbers(net, image):
    plain = copy.deepcopy(net).eval()
    hybrid = Plan("bf16-hybrid", False, "").prepare(net).eval()
    assert {type(m).__name__ for m in depthwise_of(hybrid)} == {"Conv2dInFp32"}
    assert list(hybrid.state_dict()) == list(plain.state_dict())
    assert torch.equal(hybrid(image), plain(image))
    plain.load_state_dict(hybrid.state_dict())


def test_hybrid_computes_depthwise_in_fp32_and_the_rest_in_bf16(net, image):
    hybrid, kinds = Plan("bf16-hybrid", True, "").prepare(net).train(), {}
    for name, module in hybrid.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(
                lambda m, args, out, name=name: kinds.update({name: (m.groups > 1, out.dtype)})
            )
    with torch.autocast("cpu", torch.bfloat16):
        loss = hybrid(image).float().square().mean()
    loss.backward()
    assert set(kinds.values()) == {(True, torch.float32), (False, torch.bfloat16)}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in hybrid.parameters())


def test_hybrid_gradients_are_near_those_of_fp32(net, image):
    def gradient(model, enabled):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = model.eval()(image).float().square().mean()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    exact = gradient(copy.deepcopy(net), False)
    hybrid = gradient(Plan("bf16-hybrid", True, "").prepare(net), True)
    assert torch.cosine_similarity(exact, hybrid, dim=0) > 0.999


def test_bf16_keeps_names_and_gives_bf16_everywhere(net, image):
    names, kinds = list(net.state_dict()), set()
    plain = Plan("bf16", True, "").prepare(net).train()
    assert list(plain.state_dict()) == names
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, args, out: kinds.add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        plain(image).float().square().mean().backward()
    assert kinds == {torch.bfloat16}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in plain.parameters())


def test_a_copy_of_a_hybrid_is_one_of_its_own(net, image):
    hybrid = Plan("bf16-hybrid", True, "").prepare(net).eval()
    twin = copy.deepcopy(hybrid)
    assert torch.equal(twin(image), hybrid(image))
    assert len(depthwise_of(twin)) == len(depthwise_of(hybrid))
    with torch.no_grad():
        depthwise_of(twin)[0].weight.zero_()
    assert not torch.equal(twin(image), hybrid(image))


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format(channels_last, net, image):
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    prepared, seen = Plan("fp32", channels_last, "").prepare(net), []
    prepared.last_map.register_forward_hook(lambda module, args, output: seen.append(output))
    prepared(image)
    assert seen[0].is_contiguous(memory_format=memory_format)


@pytest.mark.skipif(sys.platform != "linux", reason="the joint layers are for Linux")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16-hybrid"])
def test_in_every_precision_a_norm_takes_its_activation_along(precision, net, image, monkeypatch):
    monkeypatch.setattr(pixels, "LARGE", 0)
    prepared, taken = Plan(precision, True, "").prepare(net).train(), []
    apply = norm._NormAct.apply
    monkeypatch.setattr(norm._NormAct, "apply", lambda image, *rest: taken.append(image.dtype) or apply(image, *rest))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
        prepared(image.to(memory_format=torch.channels_last)).float().sum().backward()
    assert len(taken) == sum(isinstance(module, BatchNormAct2d) for module in net.modules())
    assert (torch.bfloat16 in taken) == (precision != "fp32")
