"""Operations that radiographs need and Kornia lacks; they extend Kornia's classes and run in any of its containers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from kornia.augmentation.random_generator import PlainUniformGenerator, RandomGeneratorBase
from torch import Tensor

from koa_lightning.training.augmentation.tensors import Params, moved

NOISE_FIELDS = 4  # length of the shared stream of noise, in pictures


class RandomMeanContrast(IntensityAugmentationBase2D):
    """Stretch or press the gray values about the mean of each picture, as PIL does.

    Kornia's `RandomContrast` multiplies by the factor, which is one more brightness and saturates bone. The input is
    not clamped, the output is, to [0, 1].

    Args:
        contrast: Smallest and largest factor, at least 0; or one number d for 1 - d to 1 + d.
        same_on_batch, p, keepdim: As for every operation of Kornia.
    """

    def __init__(
        self,
        contrast: float | tuple[float, float] = 0.2,
        same_on_batch: bool = False,
        p: float = 1.0,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = PlainUniformGenerator((contrast, "contrast_factor", 1.0, (0.0, float("inf"))))

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Return the stretched batch; see Kornia."""
        factor = moved(params["contrast_factor"], input).view(-1, 1, 1, 1)
        mean = input.mean((-3, -2, -1), keepdim=True)
        return torch.addcmul((1 - factor) * mean, input, factor).clamp_(0, 1)


class RandomExposureCurve(IntensityAugmentationBase2D):
    """Bend the gray values as the look-up tables of detectors do: x + k x (1 - x) (1 - 2 x), which rises throughout.

    Black, middle gray and white stay. Above 0 the curve is flat in the middle, below 0 it is steep there (an S).

    Args:
        curve: Smallest and largest k, from -1 to 2; or one number d for -d to d.
        same_on_batch, p, keepdim: As for every operation of Kornia.
    """

    def __init__(
        self,
        curve: float | tuple[float, float] = (-0.5, 0.5),
        same_on_batch: bool = False,
        p: float = 1.0,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = PlainUniformGenerator((curve, "curve", 0.0, (-1.0, 2.0)))

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Return the bent batch, clamped to [0, 1]; see Kornia."""
        x, k = input.clamp(0, 1), moved(params["curve"], input).view(-1, 1, 1, 1)
        return torch.addcmul(x, k, x * (1 - x) * (1 - 2 * x)).clamp_(0, 1)


class RandomDetectorNoise(IntensityAugmentationBase2D):
    """Add white Gaussian noise of a strength that is drawn for each picture.

    Kornia's `RandomGaussianNoise` has one strength for all and draws a normal number for every pixel, which costs as
    much as a warp. Here one stream, four pictures long, is drawn for each batch, and each picture reads a window of it:
    the noise is white within a picture, but two pictures may share a stretch.

    Args:
        std: Smallest and largest standard deviation, as a gray value in [0, 1].
        same_on_batch, p, keepdim: As for every operation of Kornia.
    """

    def __init__(
        self,
        std: tuple[float, float] = (0.0, 0.03),
        same_on_batch: bool = False,
        p: float = 1.0,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = PlainUniformGenerator((std, "std", 0.0, (0.0, 1.0)), ((0.0, 1.0), "start", 0.0, (0, 1)))

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Return `std` and `start` (where the picture reads the stream, a share), both (n,), and `stream`."""
        params: Params = super().generate_parameters(batch_shape)
        params["stream"] = torch.randn(NOISE_FIELDS * math.prod(batch_shape[1:]))
        return params

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Return the noisy batch, clamped to [0, 1]; see Kornia."""
        windows = moved(params["stream"], input).unfold(0, math.prod(input.shape[1:]), 1)  # a view: row k from number k
        start = (params["start"] * len(windows)).long().clamp_(max=len(windows) - 1)
        noise = windows.index_select(0, moved(start, input, start.dtype)).view(input.shape)
        return torch.addcmul(input, noise, moved(params["std"], input).view(-1, 1, 1, 1)).clamp_(0, 1)


class RectangleGenerator(RandomGeneratorBase):
    """Draw rectangles: area evenly, aspect evenly on a logarithmic scale, place evenly where they fit.

    Kornia's generator draws the aspect below 1 and above 1 evenly each, which favours squares less.

    Args:
        scale: Smallest and largest area as a share of the picture, in [0, 1].
        ratio: Smallest and largest height / width, above 0; sides longer than the picture are cut.
    """

    def __init__(self, scale: Sequence[float], ratio: Sequence[float]) -> None:
        super().__init__()
        if len(scale) != 2 or not 0 <= scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two numbers from 0 to 1, the smaller first. Got {scale}.")
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio must be two numbers above 0, the smaller first. Got {ratio}.")
        self.scale, self.ratio = scale, ratio

    def make_samplers(self, device: torch.device, dtype: torch.dtype) -> None:
        """Need none; see Kornia."""

    def forward(self, batch_shape: tuple[int, ...], same_on_batch: bool = False) -> Params:
        """Return `xs`, `ys`, `widths` and `heights` in pixels, whole numbers, (n,)."""
        height, width = batch_shape[-2:]
        share = torch.rand(4, 1 if same_on_batch else batch_shape[0], dtype=torch.float64).expand(4, batch_shape[0])
        area = (self.scale[0] + (self.scale[1] - self.scale[0]) * share[0]) * height * width
        low, high = map(math.log, self.ratio)
        ratio = (low + (high - low) * share[1]).exp()
        heights = (area * ratio).sqrt().round().clamp(max=height)
        widths = (area / ratio).sqrt().round().clamp(max=width)
        xs = ((width - widths + 1) * share[2]).floor()
        ys = ((height - heights + 1) * share[3]).floor()
        return {"xs": xs, "ys": ys, "widths": widths, "heights": heights}


class RandomMeanErasing(IntensityAugmentationBase2D):
    """Fill a rectangle with the mean gray of its picture (Zhong et al. 2020).

    Kornia's `RandomErasing` fills all with one gray value, which tells the network where it looked away.

    Args:
        scale: Smallest and largest area of the rectangle as a share of the picture, in [0, 1].
        ratio: Smallest and largest height / width, drawn on a logarithmic scale.
        same_on_batch, p, keepdim: As for every operation of Kornia.
    """

    def __init__(
        self,
        scale: Sequence[float] = (0.02, 0.1),
        ratio: Sequence[float] = (0.5, 2.0),
        same_on_batch: bool = False,
        p: float = 0.5,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        self._param_generator = RectangleGenerator(scale, ratio)

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Return the batch with the rectangles filled; see Kornia."""
        inside = rectangle_mask(params, input)
        return torch.where(inside, input.mean((-3, -2, -1), keepdim=True), input)


class RandomCollimation(IntensityAugmentationBase2D):
    """Cover the edges of the picture as the collimator of an X-ray tube does.

    Args:
        width: Smallest and largest width of an edge as a share of the side, in [0, 0.5]; drawn for each of the four.
        value: Gray value of what is covered, in [0, 1].
        same_on_batch, p, keepdim: As for every operation of Kornia.
    """

    def __init__(
        self,
        width: tuple[float, float] = (0.0, 0.1),
        value: float = 0.0,
        same_on_batch: bool = False,
        p: float = 0.5,
        keepdim: bool = False,
    ) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, keepdim=keepdim)
        if not 0 <= value <= 1:
            raise ValueError(f"value must be from 0 to 1. Got {value}.")
        edges = ("left", "right", "top", "bottom")
        self._param_generator = PlainUniformGenerator(*((width, name, 0.0, (0.0, 0.5)) for name in edges))
        self.flags = {"value": value}

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Params:
        """Return the open rectangle as `xs`, `ys`, `widths` and `heights` in pixels, (n,)."""
        edge, (height, width) = super().generate_parameters(batch_shape), batch_shape[-2:]
        left, right = ((edge[name] * width).floor() for name in ("left", "right"))
        top, bottom = ((edge[name] * height).floor() for name in ("top", "bottom"))
        return {"xs": left, "ys": top, "widths": width - left - right, "heights": height - top - bottom}

    def apply_transform(
        self, input: Tensor, params: Params, flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """Return the batch with the edges covered; see Kornia."""
        return torch.where(rectangle_mask(params, input), input, flags["value"])


def rectangle_mask(params: Params, image: Tensor) -> Tensor:
    """Return where the rectangles are, bool N x 1 x H x W.

    Args:
        params: `xs`, `ys`, `widths`, `heights` in pixels, (n,).
        image: N x 1 x H x W.
    """
    left, top, width, height = (
        moved(params[name], image).view(-1, 1, 1, 1) for name in ("xs", "ys", "widths", "heights")
    )
    y = torch.arange(image.shape[-2], device=image.device).view(1, 1, -1, 1)
    x = torch.arange(image.shape[-1], device=image.device).view(1, 1, 1, -1)
    return ((y >= top) & (y < top + height)) & ((x >= left) & (x < left + width))
