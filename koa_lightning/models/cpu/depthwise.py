"""Depthwise convolutions that train faster on a CPU, with the same results up to rounding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import pad_same
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from koa_lightning.models.cpu import pixels

# Up to this width oneDNN has a fast kernel for the weight gradient of a depthwise convolution. 5 x 5 takes ten times as
# long as 5 x 3, so wider kernels are computed in pieces of this width.
_FAST_WIDTH = 3
# Matrix units (AMX) are so fast that it pays to convolve each of 16 channels (48 in large images, whose rows are long)
# with all others of its block, although only the diagonal of the block is needed. In small images it does not pay.
_BLOCK, _LARGE_BLOCK = 16, 48
_SMALL, _LARGE = 8, 32  # height in pixels
_NARROW = 7  # width in pixels, up to which oneDNN computes weight gradients faster than the compiled loops
_convolution_backward = torch.ops.aten.convolution_backward


def in_fp32(net: nn.Module) -> int:
    """Exclude depthwise convolutions from autocast, and return how many there are.

    Their backward pass is several times slower in bf16 than in fp32 on CPU, while other convolutions gain from bf16.
    """
    return _swap(net, "InFp32", _all_in_fp32)


def backward_where_fast(net: nn.Module) -> int:
    """Make depthwise convolutions compute in bf16 under autocast, except for the gradients that are slow in bf16.

    These are computed in blocks on matrix units if the CPU has them (which rounds the weight gradient to bf16, as
    autocast does), else in compiled loops or by oneDNN, in fp32. On a GPU, nothing changes.

    Returns:
        The number of depthwise convolutions.
    """
    return _swap(net, "FastBack", _fast_backward)


def _swap(net: nn.Module, suffix: str, forward_of: Callable[[type], Callable[..., Tensor]]) -> int:
    classes: dict[type, type] = {}
    found = [m for m in net.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels]
    for module in found:
        old = type(module)
        if not old.__name__.endswith(suffix):
            made = classes.get(old) or type(f"{old.__name__}{suffix}", (old,), {"forward": forward_of(old)})
            module.__class__ = classes[old] = made
    return len(found)


def _all_in_fp32(klass: type) -> Callable[..., Tensor]:
    def forward(self: nn.Conv2d, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            wide = image.device.type == "cpu" and self.kernel_size[1] > _FAST_WIDTH and _is_plain(self)
            return _apply(self, image.float()) if wide else klass.forward(self, image.float())  # type: ignore[attr-defined]

    return forward


def _fast_backward(klass: type) -> Callable[..., Tensor]:
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
        halves, wide = image.dtype == torch.bfloat16, weight.shape[3] > _FAST_WIDTH
        # bf16 takes twenty times as long with a stride, twice as long where the kernel is wide, else half as long.
        slow = max(ctx.stride) > 1 or wide
        block = _block(gradient) if halves else 0
        if block:
            wanted = (ctx.needs_input_grad[0] and slow, ctx.needs_input_grad[1])
            of_image, of_weight = _in_blocks(gradient, image, weight, ctx.stride, ctx.padding, block, wanted)
        elif pixels.suited(image):  # where oneDNN is slower, also as it would first widen bf16 to fp32
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            if ctx.needs_input_grad[0] and halves and max(ctx.stride) > 1:
                of_image = _of_image_in_loops(gradient, image, weight, ctx.stride, ctx.padding)
            if ctx.needs_input_grad[1] and (halves or wide) and gradient.shape[3] > _NARROW:
                of_weight = _of_weight_in_loops(gradient, image, weight, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[0] and of_image is None:
            shape = torch.empty_like(image, dtype=torch.float32)  # only the shape of the image is used
            like = (gradient.float(), shape, weight) if slow else (gradient, image, weight.to(image.dtype))
            of_image = _backward(like[0], like[1], like[2], ctx.stride, ctx.padding, 0).to(image.dtype)
        if ctx.needs_input_grad[1] and of_weight is None:
            of_weight = _of_weight(gradient.float(), image, weight, ctx.stride, ctx.padding)
        return of_image, of_weight, None, None


def _block(gradient: Tensor) -> int:
    """Return the number of channels per block for the gradients; 0 means no blocks."""
    channels, height = gradient.shape[1:3]
    if not _has_matrix_units() or height < _SMALL or channels % _BLOCK:
        return 0
    return _LARGE_BLOCK if height >= _LARGE and channels % _LARGE_BLOCK == 0 else _BLOCK


@functools.cache
def _has_matrix_units() -> bool:
    return torch.cpu._is_amx_tile_supported()


def _in_blocks(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    block: int,
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return the wanted gradients of image and weight, by a convolution whose groups are blocks."""
    channels, _, height, width = weight.shape
    groups = channels // block
    wide = image.new_zeros((groups, block, block, height, width))
    wide.diagonal(dim1=1, dim2=2).copy_(weight.view(groups, block, height, width).permute(0, 2, 3, 1))
    of_image, of_wide, _ = _convolution_backward(
        gradient, image, wide.flatten(0, 1), None, stride, padding, (1, 1), False, (0, 0), groups, [*wanted, False]
    )
    if not wanted[1]:
        return of_image, None
    diagonal = of_wide.view(wide.shape).diagonal(dim1=1, dim2=2)
    return of_image, diagonal.permute(0, 3, 1, 2).reshape(weight.shape).to(weight.dtype)


def _of_weight_in_loops(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    parts = np.empty((torch.get_num_threads(), *weight.shape[2:], len(weight)))
    pixels.depthwise_loops().of_weight(pixels.lines(image), pixels.lines(gradient), stride, padding, parts)
    return torch.from_numpy(parts.sum(0)).to(weight.dtype).permute(2, 0, 1).unsqueeze(1)


def _of_image_in_loops(
    gradient: Tensor, image: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    found, threads = torch.empty_like(image), torch.get_num_threads()
    taps = np.ascontiguousarray(weight.detach()[:, 0].permute(1, 2, 0).float().numpy())
    pixels.depthwise_loops().of_image(pixels.lines(gradient), taps, stride, padding, threads, pixels.lines(found))
    return found


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
    """Return columns of an image in fp32, zeros outside it, in one pass; `F.pad` needs three."""
    low = min(max(first, 0), first + count)  # a piece may lie outside a tiny image
    high = max(low, min(first + count, image.shape[3]))
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
