"""The compiled network: the same numbers, and what it costs in words."""

import pytest
import torch
from torch import nn

from koa_lightning.errors import InputError
from koa_lightning.models.plan import Plan
from koa_lightning.training import compiling
from koa_lightning.training.compiling import Compiled


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            Compiled(30.0, 0.5, 0.25),
            "compiled in 30.0 s: a step takes 250.0 instead of 500.0 ms; it pays off after 121 of 9000 steps",
        ),
        (Compiled(3000.0, 0.5, 0.25), "it pays off after 12001 of 9000 steps, so not here"),
        (Compiled(30.0, 0.05, 0.05), "it does not pay off, trainer.compile=none trains faster"),
    ],
)
def test_cost_and_gain_are_said(found, line):
    assert found.words(9000).endswith(line)


def test_what_cannot_be_compiled_is_one_line(monkeypatch):
    def broken(net, mode):
        def call(image):
            raise RuntimeError("no C++ compiler\nand more")

        return call

    monkeypatch.setattr(compiling, "compiled", broken)
    plan = Plan("fp32", False, "")
    with pytest.raises(InputError, match=r"trainer.compile=default: fails on this machine \(no C\+\+ compiler\)"):
        compiling.timed(nn.Conv2d(1, 2, 3), "default", plan, 2, 8, torch.device("cpu"))


@pytest.mark.slow
def test_a_compiled_network_computes_the_same_and_the_random_state_stays():
    torch.manual_seed(0)
    net, state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), torch.get_rng_state()
    found = compiling.timed(net, "default", Plan("fp32", False, ""), 2, 8, torch.device("cpu"))
    assert found.cost > found.after > 0
    assert torch.equal(torch.get_rng_state(), state)
    image = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(compiling.compiled(net, "default")(image), net(image))
