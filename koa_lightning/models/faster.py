"""Layers that train faster on a CPU and compute the same; only the order of sums, and so the last digits, differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import pad_same
from timm.layers.conv2d_same import Conv2dSame
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Up to this width oneDNN has a fast kernel for the weights' gradient of a depthwise convolution; of 5 x 5 it takes ten
# times as long as of 5 x 3, so wider ones are computed in pieces of this width.
_FAST_WIDTH = 3
_convolution_backward = torch.ops.aten.convolution_backward


def depthwise_in_fp32(net: nn.Module) -> int:
    """Make depthwise convolutions leave autocast, and return how many.

    Their backward pass is several times slower in bf16 than in fp32 on CPU, while other convolutions gain from bf16.
    """
    return _swap(net, "InFp32", _in_fp32)


def depthwise_backward_in_fp32(net: nn.Module) -> int:
    """Make depthwise convolutions compute in bf16 as autocast wants, but those gradients in fp32 that bf16 is slow at.

    Nothing changes on a GPU.

    Returns:
        How many they are.
    """
    return _swap(net, "BackInFp32", _backward_in_fp32)


def _swap(net: nn.Module, suffix: str, forward_of: Callable[[type], Callable[..., Tensor]]) -> int:
    classes: dict[type, type] = {}
    found = [m for m in net.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    for module in found:
        old = type(module)
        if not old.__name__.endswith(suffix):
            made = classes.get(old) or type(f"{old.__name__}{suffix}", (old,), {"forward": forward_of(old)})
            module.__class__ = classes[old] = made
    return len(found)


def _in_fp32(klass: type) -> Callable[..., Tensor]:
    def forward(self: nn.Conv2d, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            wide = image.device.type == "cpu" and self.kernel_size[1] > _FAST_WIDTH and _is_plain(self)
            return _apply(self, image.float()) if wide else klass.forward(self, image.float())  # type: ignore[attr-defined]

    return forward


def _backward_in_fp32(klass: type) -> Callable[..., Tensor]:
    def forward(self: nn.Conv2d, image: Tensor) -> Tensor:
        if image.device.type != "cpu" or not torch.is_autocast_enabled("cpu") or not _is_plain(self):
            return klass.forward(self, image)  # type: ignore[attr-defined]
        with torch.autocast("cpu", enabled=False):
            return _apply(self, image.to(torch.get_autocast_dtype("cpu")))

    return forward


def _is_plain(conv: nn.Conv2d) -> bool:
    known = type(conv).__mro__[1] in (nn.Conv2d, Conv2dSame) and not isinstance(conv.padding, str)
    one_each = conv.out_channels == conv.in_channels
    return known and one_each and conv.bias is None and conv.dilation == (1, 1) and conv.padding_mode == "zeros"


def _apply(conv: nn.Conv2d, image: Tensor) -> Tensor:
    padding = conv.padding
    if isinstance(conv, Conv2dSame):
        image, padding = pad_same(image, list(conv.kernel_size), list(conv.stride)), (0, 0)
    return _Depthwise.apply(image, conv.weight, conv.stride, padding)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in the type of the image, whose gradients are computed the fastest way."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(image, weight.to(image.dtype), None, stride, padding, 1, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        image, weight = ctx.saved_tensors
        of_image = of_weight = None
        exact = gradient.float()
        if ctx.needs_input_grad[0]:
            # bf16 takes twenty times as long with a stride, twice as long where the kernel is wide, else half as long.
            slow = max(ctx.stride) > 1 or weight.shape[3] > _FAST_WIDTH
            shape = torch.empty_like(image, dtype=torch.float32)  # all that is asked of the image is its shape
            like = (exact, shape, weight) if slow else (gradient, image, weight.to(image.dtype))
            of_image = _backward(like[0], like[1], like[2], ctx.stride, ctx.padding, 0).to(image.dtype)
        if ctx.needs_input_grad[1]:
            of_weight = _of_weight(exact, image, weight, ctx.stride, ctx.padding)
        return of_image, of_weight, None, None


def _of_weight(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient of the weight, in pieces of `_FAST_WIDTH` columns."""
    last = weight.shape[3] - _FAST_WIDTH
    if last <= 0:
        return _backward(gradient, image.float(), weight, stride, padding, 1)
    found = torch.empty_like(weight)
    seen = stride[1] * (gradient.shape[3] - 1) + _FAST_WIDTH  # columns that a piece slides over
    for first in (*range(0, last, _FAST_WIDTH), last):
        columns = _columns(image, first - padding[1], seen)
        piece = slice(first, first + _FAST_WIDTH)
        found[..., piece] = _backward(gradient, columns, weight[..., piece], stride, (padding[0], 0), 1)
    return found


def _columns(image: Tensor, first: int, count: int) -> Tensor:
    """Return columns of an image in fp32, zeros where it has none; in one pass, which `F.pad` needs three for."""
    low, high = max(first, 0), min(first + count, image.shape[3])
    channels_last = image.is_contiguous(memory_format=torch.channels_last)
    columns = torch.empty(
        (*image.shape[:3], count),
        device=image.device,
        memory_format=torch.channels_last if channels_last else torch.contiguous_format,
    )
    columns[..., : low - first] = 0
    columns[..., low - first : high - first] = image[..., low:high]
    columns[..., high - first :] = 0
    return columns


def _backward(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int], wanted: int
) -> Tensor:
    """Return the gradient of the image (`wanted` 0) or of the weight (1) of a depthwise convolution."""
    mask = [wanted == 0, wanted == 1, False]
    found = _convolution_backward(
        gradient, image, weight, None, stride, padding, (1, 1), False, (0, 0), len(weight), mask
    )
    return found[wanted]


def spare_squeeze(net: nn.Module) -> int:
    """Let squeeze-and-excitation hand back the gradient of its mean as one number a channel; return how many do.

    Autograd's own gradient of a mean is a whole picture of equal numbers, written to memory and read again.
    """
    found = [module for module in net.modules() if type(module) in (SqueezeExcite, _SqueezeExcite)]
    for module in found:
        module.__class__ = _SqueezeExcite
    return len(found)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.shape = image.shape
        return image.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return (gradient / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


class _SqueezeExcite(SqueezeExcite):
    def forward(self, image: Tensor) -> Tensor:
        squeezed = self.conv_expand(self.act1(self.conv_reduce(_Mean.apply(image))))
        return image * self.gate(squeezed)


def spare_activations(net: nn.Module) -> int:
    """Let activations that work in place do so without the copy that autograd takes of what they overwrite.

    The gradient of ReLU6 can be told from its output; SiLU needs its input, which is kept
    anyway, so it writes elsewhere.

    Returns:
        How many they are.
    """
    found = [m for m in net.modules() if isinstance(m, nn.ReLU6 | nn.SiLU) and m.inplace]
    for module in found:
        if isinstance(module, nn.ReLU6):
            module.__class__ = _ReLU6
        else:
            module.inplace = False
    return len(found)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.mark_dirty(value)
        clipped = value.clamp_(0, 6)
        ctx.save_for_backward(clipped)
        return clipped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (clipped,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, clipped, 0, 6)


class _ReLU6(nn.ReLU6):
    def forward(self, value: Tensor) -> Tensor:
        return _Clip.apply(value)
