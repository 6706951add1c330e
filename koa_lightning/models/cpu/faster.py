"""Layers that train faster on a CPU with the same results; only the order of sums, and so the last digits, differ."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from koa_lightning.models.cpu import pixels


def spare_squeeze(net: nn.Module) -> int:
    """Make squeeze-and-excitation write the gradient of its image only once; return how many layers do.

    Autograd would add two full images: the gradient through the product, and the one through the mean, which is the
    same number for all pixels of a channel.
    """
    found = [module for module in net.modules() if type(module) in (SqueezeExcite, _SqueezeExcite)]
    for module in found:
        module.__class__ = _SqueezeExcite
    return len(found)


class _SqueezeExcite(SqueezeExcite):
    def forward(self, image: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return image * self.weigh(_mean(image))
        return _Excite.apply(image, self, *(p for p in self.parameters() if p.requires_grad))

    def weigh(self, mean: Tensor) -> Tensor:
        """Return the factor of each channel, from its mean; both N x C x 1 x 1."""
        if not self.training:  # grading matches timm to the last bit
            return self.gate(self.conv_expand(self.act1(self.conv_reduce(mean))))
        hidden = self.act1(_dense(self.conv_reduce, mean.flatten(1)))
        return self.gate(_dense(self.conv_expand, hidden))[..., None, None]


def _dense(conv: nn.Conv2d, values: Tensor) -> Tensor:
    """Return a 1 x 1 convolution of one-pixel images, N x C, in a third of the time."""
    return F.linear(values, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)  # its gradient is channels_last then


class _Excite(torch.autograd.Function):
    """Squeeze-and-excitation that writes the gradient of the image once, not once for each use of the image."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, layer: _SqueezeExcite, *parameters: Tensor) -> Tensor:
        with torch.enable_grad():
            mean = _mean(image.detach()).requires_grad_()
            factor = layer.weigh(mean)
        ctx.save_for_backward(image)
        ctx.mean, ctx.factor, ctx.parameters = mean, factor, parameters
        return image * factor.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (image,) = ctx.saved_tensors
        of_factor = _products(gradient, image).to(ctx.factor.dtype)
        of_mean, *of_parameters = torch.autograd.grad(
            ctx.factor, [ctx.mean, *ctx.parameters], of_factor, retain_graph=True
        )
        if not ctx.needs_input_grad[0]:
            return None, None, *of_parameters
        share = (of_mean / (image.shape[2] * image.shape[3])).to(gradient.dtype)
        return torch.addcmul(share, gradient, ctx.factor.detach().to(gradient.dtype)), None, *of_parameters


def _mean(image: Tensor) -> Tensor:
    """Return the mean of each channel, N x C x 1 x 1; in bf16 as a product with ones, in a fifth of the time."""
    if image.dtype != torch.bfloat16 or image.device.type != "cpu":
        return image.mean((2, 3), keepdim=True)
    n, channels, height, width = image.shape
    pixels = image.permute(0, 2, 3, 1).reshape(n, height * width, channels)
    ones = pixels.new_full((1, 1, height * width), 1.0).expand(n, -1, -1)
    return (torch.bmm(ones, pixels) / (height * width)).view(n, channels, 1, 1)


def _products(gradient: Tensor, image: Tensor) -> Tensor:
    """Return the sum of gradient * image over the pixels, N x C x 1 x 1, without writing the products."""
    if not (pixels.suited(image) and pixels.suited(gradient)):
        return (gradient * image).sum((2, 3), keepdim=True)
    found = torch.empty(image.shape[:2])
    flat = (len(image), -1, image.shape[1])
    pixels.loops().products(pixels.of(image).reshape(flat), pixels.of(gradient).reshape(flat), found.numpy())
    return found[..., None, None]


def spare_activations(net: nn.Module) -> int:
    """Spare in-place activations the copy that autograd makes of the values they overwrite.

    The gradient of ReLU6 follows from its output. SiLU needs its input, which is kept anyway, so it writes elsewhere.

    Returns:
        The number of these activations.
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
