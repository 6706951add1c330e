"""Compile the network for training (`trainer.compile`), and report cost and gain before the training."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from koa_lightning.errors import InputError
from koa_lightning.models.plan import Plan

_STEPS = 5


@dataclass(frozen=True)
class Compiled:
    """The cost and the gain of compiling.

    Attributes:
        cost: Seconds of the first step, which compiles.
        before: Seconds of a step that is not compiled.
        after: Seconds of a compiled step.
    """

    cost: float
    before: float
    after: float

    def words(self, steps: int) -> str:
        """Return cost and gain as one line.

        Args:
            steps: Steps of the whole training.
        """
        gain = self.before - self.after
        now, then = 1000 * self.after, 1000 * self.before
        line = f"compiled in {self.cost:.1f} s: a step takes {now:.1f} instead of {then:.1f} ms"
        if gain <= 0:
            return f"{line}; it does not pay off, trainer.compile=none trains faster"
        pays = int(self.cost / gain) + 1
        return f"{line}; it pays off after {pays} of {steps} steps{'' if pays <= steps else ', so not here'}"


def compiled(net: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    """Return a network with the parameters of `net`, which compiles at its first call."""
    return torch.compile(net, mode=None if mode == "default" else mode, dynamic=False)


def timed(net: nn.Module, mode: str, plan: Plan, batch_size: int, size: int, device: torch.device) -> Compiled:
    """Time a few steps of a copy, uncompiled and compiled.

    Args:
        net: A network for one gray channel.
        mode: `default`, or another of torch.compile.
        plan: The plan of computation.
        batch_size: Images per step.
        size: Side of an image in pixels.
        device: The device that trains.

    Raises:
        InputError: It cannot be compiled on this machine.
    """
    with torch.random.fork_rng(devices=[]):
        model = copy.deepcopy(net).to(device).train()
        image = torch.rand(batch_size, 1, size, size, device=device)
        before = _best(model, model, image, plan)
        fast = compiled(model, mode)
        try:
            cost = _seconds(model, fast, image, plan)
        except Exception as error:  # the compiler fails in many ways, e.g. without a C++ compiler
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"trainer.compile={mode}: fails on this machine ({why}); type trainer.compile=none"
            ) from error
        return Compiled(cost, before, _best(model, fast, image, plan))


def _best(model: nn.Module, call: Callable[[Tensor], Any], image: Tensor, plan: Plan) -> float:
    _seconds(model, call, image, plan)  # the first allocates the memory
    return min(_seconds(model, call, image, plan) for _ in range(_STEPS))


def _seconds(model: nn.Module, call: Callable[[Tensor], Any], image: Tensor, plan: Plan) -> float:
    """Return the seconds of one step, forward and backward."""
    cuda = image.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    with torch.autocast(image.device.type, torch.bfloat16, enabled=plan.precision.startswith("bf16")):
        loss = call(image).float().square().mean()
    loss.backward()
    model.zero_grad()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start
