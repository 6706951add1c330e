"""The exported graph: from the uint8 image of the preprocessing to calibrated probabilities and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from koa_lightning.checkpoint.fitted import Calibration, LeftOut
from koa_lightning.evaluation.grading import Member
from koa_lightning.models import outputs
from koa_lightning.models.exported import OUTPUTS
from koa_lightning.models.net import KneeNet
from koa_lightning.uncertainty import recalibrated

_TINY = 1e-12  # the smallest probability whose logarithm is taken


class _One(NamedTuple):
    probabilities: Tensor
    logits: Tensor
    features: Tensor
    cam: Tensor


class Grader(nn.Module):
    """One network, or several whose calibrated probabilities are averaged, as a function of an image.

    Args:
        members: At least one; all take images of one size.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.each = [_Net(member) for member in members]
        self.nets = nn.ModuleList(self.each)  # so that torch knows them

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs of `forward`, in order; `cam` only if each network has a closed form."""
        return tuple(name for name in OUTPUTS if name != "cam" or self.has_cam)

    @property
    def has_cam(self) -> bool:
        """Return whether all heads are an average and one linear layer."""
        return all(net.weight is not None for net in self.each)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Grade images.

        Args:
            image: uint8 N x 1 x S x S, prepared as the record says.

        Returns:
            `probabilities` float32 N x 5; `expected_grade` float32 N; `median_grade` and `grade` int64 N; `logits`
            float32 N x K (of several networks the logarithms of the mean probabilities); `features` float32 N x C, the
            pooled features; `cam` float32 N x h x w >= 0, the evidence for `grade` (Zhou 2016) on the network's grid.
        """
        image = image.float()
        each = [net.logits_and_features(image) for net in self.each]
        shares = [net.probabilities(logits) for net, (logits, _, _) in zip(self.each, each, strict=True)]
        probabilities = torch.stack(shares).mean(0)
        probabilities = probabilities / probabilities.sum(1, keepdim=True) if len(each) > 1 else probabilities
        logits = each[0][0] if len(each) == 1 else probabilities.clamp(min=_TINY).log()
        grade = probabilities.argmax(1)
        reached = probabilities.cumsum(1) >= 0.5 - outputs.HALF_MARGIN
        given = {
            "probabilities": probabilities,
            "expected_grade": outputs.expected_grade(probabilities),
            "median_grade": (~reached).long().sum(1).clamp(max=outputs.N_GRADES - 1),
            "grade": grade,
            "logits": logits,
            "features": each[0][1],
        }
        if self.has_cam:
            maps = [net.cam(logits, last, grade) for net, (logits, _, last) in zip(self.each, each, strict=True)]
            given["cam"] = maps[0] if len(maps) == 1 else _mean(maps)
        return tuple(given[name] for name in self.outputs)


def _mean(maps: list[Tensor]) -> Tensor:
    """Return the mean of maps, each scaled to its own maximum, on the finest of their grids."""
    size = max(map_.shape[-1] for map_ in maps)
    fine = [interpolate(each[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0] for each in maps]
    return torch.stack([each / each.amax((1, 2), keepdim=True).clamp(min=1e-7) for each in fine]).mean(0)


class _Net(nn.Module):
    """One network with its calibration, its link, and the matrix of its head if that is linear."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.net: KneeNet = member.net
        self.link = member.link
        self.entry: Calibration | LeftOut | None = member.checkpoint.record.fitted.calibration
        head = linear_head(member.net, member.checkpoint.preprocessing.image_size)
        self.weight = None if head is None else nn.Parameter(head.clone(), requires_grad=False)

    def logits_and_features(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spec = self.net.spec
        last = self.net.features((image - 255 * spec.mean) / (255 * spec.std))
        pooled = self.net.net.forward_head(last, pre_logits=True).flatten(1)  # type: ignore[operator]
        return self.net.head(last), pooled, last

    def probabilities(self, logits: Tensor) -> Tensor:
        return recalibrated.probabilities(logits, self.link, self.entry)

    def cam(self, logits: Tensor, last: Tensor, grade: Tensor) -> Tensor:
        """Return what each place of the last map adds to the evidence for a grade, float32 N x h x w, >= 0."""
        assert self.weight is not None
        rows = slopes(logits, grade, self.link) @ self.weight
        return (rows[:, :, None, None] * last).sum(1).clamp(min=0)


@torch.no_grad()
def linear_head(net: KneeNet, image_size: int) -> Tensor | None:
    """Return the matrix (K x C) of a head that is an average and one linear layer, found numerically; else None."""
    last = torch.rand(2, *net.features(torch.zeros(1, 1, image_size, image_size)).shape[1:])
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if last.ndim != 4 or not linear or linear[-1].in_features != last.shape[1]:
        return None
    logits = net.head(last)
    if linear[-1].out_features != logits.shape[1]:
        return None
    fits = torch.allclose(linear[-1](last.mean((2, 3))), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
    return linear[-1].weight.detach() if fits else None


def slopes(logits: Tensor, grade: Tensor, link: str) -> Tensor:
    """Return how the evidence for a grade changes with the logits, N x K, without a gradient.

    That of a softmax is the grade's logit. For CORN it is the log of the grade's probability, the product of the
    conditional probabilities of passing each lower threshold and of stopping at its own.
    """
    if link == "softmax":
        return torch.nn.functional.one_hot(grade, outputs.N_GRADES).to(logits.dtype)
    threshold = torch.arange(logits.shape[1], device=logits.device)[None]
    passed, stopped = threshold < grade[:, None], threshold == grade[:, None]
    steps = passed * (-logits).sigmoid() - stopped * logits.sigmoid()
    return steps / steps.abs().amax(1, keepdim=True).clamp(min=1e-30)
