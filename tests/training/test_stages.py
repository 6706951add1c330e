import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.models.net import NetSpec, build
from koa_lightning.training.stages import Stages, groups, n_resting


@pytest.fixture(scope="module")
def stages():
    return Stages(build(NetSpec("test_efficientnet", drop_path_rate=0.2)))


def test_stages_go_from_the_stem_to_the_head(stages):
    depth = stages.of
    assert stages.n == 6
    assert depth["conv_stem.weight"] == depth["bn1.bias"] == 0
    assert depth["blocks.0.0.conv.weight"] == 1
    assert depth["conv_head.weight"] == 5
    assert depth["classifier.weight"] == depth["classifier.bias"] == stages.n
    assert list(depth.values()) == sorted(depth.values())


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_tiny", "efficientnet_b3", "densenet121", "vit_tiny_patch16_224"]
)
def test_models_of_other_families(name):
    with torch.device("meta"):
        net = build(NetSpec(name, image_size=224))
    found = Stages(net)
    assert found.known
    assert found.n >= 3
    assert set(found.of.values()) == set(range(found.n + 1))


def test_a_model_of_unknown_stages_has_one_before_its_head(monkeypatch):
    net = build(NetSpec("test_efficientnet"))
    monkeypatch.delattr(type(net.net), "group_matcher")
    found = Stages(net)
    assert (found.n, found.known) == (1, False)
    assert set(found.of.values()) == {0, 1}


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_what_rests_does_not_move(stages, n):
    net = stages.net
    stages.rest(n)
    before = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.rand(4, 1, 32, 32)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    depth = stages.of
    moved = {key for key, value in net.state_dict().items() if not torch.equal(value, before[key])}
    for name, stage in depth.items():
        assert (f"net.{name}" in moved) == (stage >= n), name
    resting = [name for name, module in net.net.named_modules() if not module.training and name]
    assert bool(resting) == (n > 0)
    assert all(key.rsplit(".", 1)[0].removeprefix("net.") not in resting for key in moved)
    stages.rest(0)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(module.training for module in net.modules())


def test_released_one_by_one():
    def rest(epoch, **options):
        return n_resting(7, epoch, **{"head_only_epochs": 0, "unfreeze_every": 0, "frozen": 0} | options)

    assert [rest(epoch) for epoch in range(3)] == [0, 0, 0]
    assert [rest(epoch, head_only_epochs=2) for epoch in range(4)] == [7, 7, 0, 0]
    assert [rest(epoch, unfreeze_every=1) for epoch in range(8)] == [6, 5, 4, 3, 2, 1, 0, 0]
    assert [rest(epoch, head_only_epochs=1, unfreeze_every=2, frozen=5) for epoch in range(6)] == [7, 6, 6, 5, 5, 5]
    assert rest(3, frozen=99) == 7


@given(st.integers(1, 12), st.integers(0, 3), st.integers(0, 3), st.integers(0, 14))
def test_fewer_rest_as_time_continues(n, head, every, frozen):
    found = [n_resting(n, e, head_only_epochs=head, unfreeze_every=every, frozen=frozen) for e in range(50)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == min(frozen, n)
    assert all(0 <= each <= n for each in found)


@pytest.mark.parametrize("decay", [1.0, 0.5])
def test_rates_by_depth(stages, decay):
    found = groups(stages, lr=1e-3, head_lr=2e-3, weight_decay=0.1, layer_decay=decay)
    rate = {id(p): (g["lr"], g["weight_decay"]) for g in found for p in g["params"]}
    assert sum(len(group["params"]) for group in found) == len(rate) == len(list(stages.net.parameters()))
    for name, parameter in stages.net.net.named_parameters():
        stage = stages.of[name]
        wanted = 2e-3 if stage == stages.n else 1e-3 * decay ** (stages.n - 1 - stage)
        assert rate[id(parameter)] == (pytest.approx(wanted), 0.1 if parameter.ndim > 1 else 0.0), name
    assert len(found) == (4 if decay == 1 else 2 * (stages.n + 1))


def test_a_model_whose_stages_are_not_coarse_has_one_before_its_head(monkeypatch):
    net = build(NetSpec("test_resnet"))

    def matcher(coarse=False):
        assert not coarse, "coarse grouping is not implemented"

    monkeypatch.setattr(net.net, "group_matcher", matcher)
    assert [Stages(net).n, Stages(net).known] == [1, False]
