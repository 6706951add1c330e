"""The network compiled for training (`trainer.compile`): what it costs and what it gains, said before the training."""

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
    """What came of it.

    Attributes:
        cost: Seconds of the first step, in which it is compiled.
        before: Seconds of a step that is not.
        after: Seconds of a step that is.
    """

    cost: float
    before: float
    after: float

    def words(self, steps: int) -> str:
        """Return one line.

        Args:
            steps: Of the whole training.
        """
        gain = self.before - self.after
        now, then = 1000 * self.after, 1000 * self.before
        line = f"compiled in {self.cost:.1f} s: a step takes {now:.1f} instead of {then:.1f} ms"
        if gain <= 0:
            return f"{line}; that is no gain, trainer.compile=none trains faster"
        pays = int(self.cost / gain) + 1
        return f"{line}; it pays from step {pays} of {steps} on{'' if pays <= steps else ', so it does not here'}"


def compiled(net: nn.Module, mode: str) -> Callable[[Tensor], Tensor]:
    """Return a network that computes the same, compiled at its first call; its parameters are those of `net`."""
    return torch.compile(net, mode=None if mode == "default" else mode, dynamic=False)


def timed(net: nn.Module, mode: str, plan: Plan, batch_size: int, size: int, device: torch.device) -> Compiled:
    """Time a few steps of a copy, as it is and compiled.

    Args:
        net: Of one gray channel.
        mode: `default`, or another of torch.compile.
        plan: How it computes.
        batch_size: Images a step.
        size: Pixels of a side.
        device: That trains.

    Raises:
        InputError: It cannot be compiled here.
    """
    with torch.random.fork_rng(devices=[]):
        model = copy.deepcopy(net).to(device).train()
        image = torch.rand(batch_size, 1, size, size, device=device)
        before = _best(model, model, image, plan)
        fast = compiled(model, mode)
        try:
            cost = _seconds(model, fast, image, plan)
        except Exception as error:  # of whatever the compiler calls, down to a missing C++ compiler
            why = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"trainer.compile={mode}: cannot be done here ({why}); type trainer.compile=none"
            ) from error
        return Compiled(cost, before, _best(model, fast, image, plan))


def _best(model: nn.Module, call: Callable[[Tensor], Any], image: Tensor, plan: Plan) -> float:
    _seconds(model, call, image, plan)  # the first pays for the memory
    return min(_seconds(model, call, image, plan) for _ in range(_STEPS))


def _seconds(model: nn.Module, call: Callable[[Tensor], Any], image: Tensor, plan: Plan) -> float:
    """Return the seconds of one step forward and back."""
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
