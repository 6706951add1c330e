"""The stages of a network from its stem to its head, for freezing and for learning rates that grow with depth."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn

from koa_lightning.models.net import KneeNet


class Stages:
    """Which stage each parameter is in, as timm groups them: the stem 0, then blocks; the head is stage `n`.

    A model whose stages timm does not know has one stage before its head.

    Attributes:
        n: Number of stages before the head.
        of: Stage of each parameter, by its name in timm's model.
        known: Whether timm knows the stages.
    """

    def __init__(self, net: KneeNet) -> None:
        self.net = net
        try:
            depth = group_parameters(net.net, net.net.group_matcher(coarse=True), reverse=True)  # type: ignore[operator]
            self.known = True
        except (AttributeError, AssertionError):  # some models have no grouping, or no coarse one
            depth, self.known = {}, False
        head = {id(parameter) for parameter in net.head_parameters()}
        below = {name: int(depth.get(name, 0)) for name, p in net.net.named_parameters() if id(p) not in head}
        self.n = 1 + max(below.values(), default=0)
        self.of = {name: below.get(name, self.n) for name, _ in net.net.named_parameters()}

    def rest(self, n: int) -> None:
        """Freeze the first n stages, including batch statistics and stochastic depth, and let the others train."""
        self.net.train()
        for name, parameter in self.net.net.named_parameters():
            parameter.requires_grad_(self.of[name] >= n)
        for module in self.net.net.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()


def n_resting(stages: int, epoch: int, *, head_only_epochs: int, unfreeze_every: int, frozen: int) -> int:
    """Return how many of the first stages are frozen in an epoch.

    Args:
        stages: Number of stages without the head.
        epoch: From 0.
        head_only_epochs: Number of first epochs in which all stages are frozen.
        unfreeze_every: Epochs after which one more stage, from the head down, trains; 0: all at once.
        frozen: Number of first stages that never train.
    """
    if epoch < head_only_epochs:
        return stages
    released = 1 + (epoch - head_only_epochs) // unfreeze_every if unfreeze_every else stages
    return max(min(frozen, stages), stages - released)


def groups(
    stages: Stages, *, lr: float, head_lr: float, weight_decay: float, layer_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's parameter groups: for each learning rate, one with weight decay and one without.

    Args:
        stages: Stages of the network.
        lr: Learning rate of the last stage before the head.
        head_lr: Learning rate of the head.
        weight_decay: Not applied to biases and normalisation layers.
        layer_decay: Factor of the learning rate from a stage to the one before it, in (0, 1] (Howard and Ruder 2018).
    """
    found: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in stages.net.net.named_parameters():
        below = stages.n - 1 - stages.of[name]  # -1: the head
        rate = head_lr if below < 0 else lr * layer_decay**below
        found.setdefault((below < 0, rate, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": weight_decay if decays else 0.0}
        for (_, rate, decays), parameters in found.items()
    ]
