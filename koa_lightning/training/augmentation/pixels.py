"""Element-wise operations of Kornia and of ours, applied in place to a few pictures while these are in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from kornia.augmentation import (
    RandomBrightness,
    RandomContrast,
    RandomErasing,
    RandomGamma,
    RandomGaussianNoise,
    RandomInvert,
)
from torch import Tensor

from koa_lightning.training.augmentation.radiograph import (
    RandomCollimation,
    RandomDetectorNoise,
    RandomExposureCurve,
    RandomMeanContrast,
    RandomMeanErasing,
)
from koa_lightning.training.augmentation.tensors import Operation, Params, drawn_rows, moved, of_rows

# Each is scale x + shift, with a scale and a shift a picture: several in a row are one.
LINEAR = (RandomBrightness, RandomContrast, RandomInvert, RandomMeanContrast)
FILLS = (RandomErasing, RandomMeanErasing, RandomCollimation)
OTHERS = (RandomGamma, RandomGaussianNoise, RandomDetectorNoise, RandomExposureCurve)
# What leaves [0, 1] if the input was in it.
_LEAVES = (RandomGaussianNoise,)

Step = Callable[[Tensor, int], None]  # changes rows of the batch in place, given the number of the first of them


def is_fusible(operation: object) -> bool:
    """Tell whether an operation is element-wise and known here; a subclass may do more, so it is not."""
    if type(operation) is RandomInvert and not isinstance(operation.flags["max_val"], int | float):
        return False
    return type(operation) in (*LINEAR, *FILLS, *OTHERS)


def steps(
    operations: Sequence[Operation], params: Sequence[Params], like: Tensor, in_range: bool
) -> tuple[list[Step], bool]:
    """Return what is to be done to each part of a batch.

    Args:
        operations: Fusible ones.
        params: What each drew, for the whole batch.
        like: The batch, float32 N x 1 x H x W; only its shape and device are read.
        in_range: Whether its gray values are in [0, 1].

    Returns:
        The steps, and whether the gray values are in [0, 1] afterwards.
    """
    found: list[Step] = []
    line: _Line | None = None
    for operation, drawn in zip(operations, params, strict=True):
        rows = drawn_rows(drawn)
        if not rows:
            continue
        whole = len(rows) == len(like)
        clips, kind = _clips(operation), type(operation)
        if kind in LINEAR and (in_range or not (clips[0] or (clips[1] and not whole))):
            if line is None:
                line = _Line(like)
                found.append(line)
            line.add(operation, drawn, clamps=clips[1])
            in_range = clips[1] or (in_range and kind is RandomInvert and operation.flags["max_val"] == 1)
            if clips[1]:
                line = None
            continue
        line = None
        if kind in FILLS and like.device.type == "cpu":
            found.append(_fill(operation, drawn, rows))
        elif whole and kind in _IN_PLACE and (in_range or kind is not RandomGaussianNoise):
            found.append(_IN_PLACE[kind](operation, drawn, like, in_range))
        else:
            found.append(_as_kornia(operation, drawn, rows, like))
        in_range = (in_range or (whole and clips[1])) and kind not in _LEAVES
    return found, in_range


def _clips(operation: Operation) -> tuple[bool, bool]:
    """Return whether an operation clamps what it gets and what it gives."""
    if isinstance(operation, RandomBrightness | RandomContrast):
        return operation.clip_output, operation.clip_output
    if isinstance(operation, RandomMeanContrast | RandomDetectorNoise):
        return False, True
    return (True, True) if isinstance(operation, RandomGamma | RandomExposureCurve) else (False, False)


class _Line:
    """Linear operations in one multiply-add, and one clamp if the last of them clamps."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.clamps = like, False
        self.parts: list[tuple[type, Tensor, Tensor]] = []

    def add(self, operation: Operation, params: Params, clamps: bool) -> None:
        """Add one, with its parameters; rows that were not drawn get scale 1 and shift 0."""
        gate = torch.atleast_1d(params["batch_prob"] > 0.5)
        scale, shift = torch.ones(len(gate)), torch.zeros(len(gate))
        kind = type(operation)
        if kind is RandomBrightness:
            shift = params["brightness_factor"].float() - 1
        elif kind is RandomInvert:
            scale, shift = -scale, shift + float(operation.flags["max_val"])
        else:
            scale = params["contrast_factor"].float()
        scale, shift = torch.where(gate, scale, 1.0), torch.where(gate, shift, 0.0)
        scale, shift = (moved(value, self.like).view(-1, 1, 1, 1) for value in (scale, shift))
        self.parts.append((kind, scale, shift))
        self.clamps = clamps

    def __call__(self, image: Tensor, first: int) -> None:
        rows = slice(first, first + len(image))
        total, offset = torch.ones((), device=image.device), torch.zeros((), device=image.device)
        means = any(kind is RandomMeanContrast for kind, _, _ in self.parts)
        mean = image.mean((1, 2, 3), keepdim=True) if means else offset
        for kind, all_scale, all_shift in self.parts:
            scale, shift = all_scale[rows], all_shift[rows]
            if kind is RandomMeanContrast:
                shift = (1 - scale) * (total * mean + offset)
            total, offset = total * scale, offset * scale + shift
        torch.addcmul(offset, image, total, out=image)
        if self.clamps:
            image.clamp_(0, 1)


def _gamma(operation: Operation, params: Params, like: Tensor, in_range: bool) -> Step:
    gamma, gain = (moved(params[name], like).view(-1, 1, 1, 1) for name in ("gamma_factor", "gain_factor"))
    brightens = bool((params["gain_factor"] != 1).any())

    def step(image: Tensor, first: int) -> None:
        rows = slice(first, first + len(image))
        if not in_range:
            image.clamp_(0, 1)
        image.pow_(gamma[rows])
        if brightens:
            image.mul_(gain[rows]).clamp_(0, 1)

    return step


def _gaussian_noise(operation: Operation, params: Params, like: Tensor, in_range: bool) -> Step:
    noise = moved(params["gaussian_noise"], like)

    def step(image: Tensor, first: int) -> None:
        image.add_(noise if len(noise) == 1 else noise[first : first + len(image)])

    return step


def _detector_noise(operation: Operation, params: Params, like: Tensor, in_range: bool) -> Step:
    std = moved(params["std"], like).view(-1, 1, 1, 1)
    windows = moved(params["stream"], like).unfold(0, like[0].numel(), 1)
    start = moved((params["start"] * len(windows)).long().clamp_(max=len(windows) - 1), like, torch.long)

    def step(image: Tensor, first: int) -> None:
        rows = slice(first, first + len(image))
        noise = windows.index_select(0, start[rows]).view(image.shape)
        image.addcmul_(noise, std[rows]).clamp_(0, 1)

    return step


def _exposure_curve(operation: Operation, params: Params, like: Tensor, in_range: bool) -> Step:
    curve = moved(params["curve"], like).view(-1, 1, 1, 1)

    def step(image: Tensor, first: int) -> None:
        image.clamp_(0, 1)
        bend = (1 - image).mul_(image).mul_(1 - 2 * image)
        image.addcmul_(bend, curve[first : first + len(image)]).clamp_(0, 1)

    return step


_IN_PLACE: dict[type, Callable[[Any, Params, Tensor, bool], Step]] = {
    RandomGamma: _gamma,
    RandomGaussianNoise: _gaussian_noise,
    RandomDetectorNoise: _detector_noise,
    RandomExposureCurve: _exposure_curve,
}


def _fill(operation: Operation, params: Params, rows: list[int]) -> Step:
    """Write rectangles as slices, which on a CPU costs only their pixels."""
    names = ("xs", "ys", "widths", "heights")
    boxes = dict(zip(rows, torch.stack([params[name][rows].long() for name in names], 1).tolist(), strict=True))
    kind = type(operation)

    def step(image: Tensor, first: int) -> None:
        for row in range(len(image)):
            if first + row not in boxes:
                continue
            picture, (x, y, width, height) = image[row], boxes[first + row]
            if kind is RandomCollimation:
                value = operation.flags["value"]
                picture[:, :y], picture[:, y + height :] = value, value
                picture[:, :, :x], picture[:, :, x + width :] = value, value
            else:
                gray = picture.mean() if kind is RandomMeanErasing else params["values"][first + row]
                picture[:, y : y + height, x : x + width] = gray

    return step


def _as_kornia(operation: Operation, params: Params, rows: list[int], like: Tensor) -> Step:
    """Let the operation itself change the rows that were drawn, and only these."""

    def step(image: Tensor, first: int) -> None:
        mine = [row for row in rows if first <= row < first + len(image)]
        if not mine:
            return
        index = moved(torch.tensor([row - first for row in mine]), like, torch.long)
        own = of_rows(params, mine)
        image.index_copy_(0, index, operation.apply_transform(image.index_select(0, index), own, operation.flags))

    return step
