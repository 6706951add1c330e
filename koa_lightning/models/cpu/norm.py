"""Batch norm that computes its activation in the same pass, on a CPU; only rounding differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from koa_lightning.models.cpu import pixels
from koa_lightning.models.cpu.activations import NONE, RELU6, SILU

_ACTIVATIONS = {nn.Identity: NONE, nn.SiLU: SILU, nn.ReLU6: RELU6}


def join_activations(net: nn.Module) -> int:
    """Make timm's batch norms compute their activation in the same pass where that is faster; return how many can.

    PyTorch reads and writes each image 13 times for the two, forward and backward; with one pass each it is 9 times.
    """
    found = [m for m in net.modules() if type(m) in (BatchNormAct2d, _Joint) and isinstance(m.act, tuple(_ACTIVATIONS))]
    for module in found:
        module.__class__ = _Joint
    return len(found)


class _Joint(BatchNormAct2d):
    def forward(self, image: Tensor) -> Tensor:
        usual = self.affine and self.track_running_stats and self.momentum is not None
        usual = usual and isinstance(self.drop, nn.Identity) and self.weight.dtype == torch.float32
        if not (usual and self.training and torch.is_grad_enabled() and pixels.suited(image)):
            return super().forward(image)
        kind = next(kind for known, kind in _ACTIVATIONS.items() if isinstance(self.act, known))
        out, mean, variance = _NormAct.apply(image, self.weight, self.bias, self.eps, kind)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.lerp_(mean, self.momentum)  # type: ignore[union-attr, arg-type]
            self.running_var.lerp_(variance, self.momentum)  # type: ignore[union-attr, arg-type]
        return out


class _NormAct(torch.autograd.Function):
    """Batch norm (Ioffe and Szegedy 2015) and activation; also the channels' means and unbiased variances."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, weight: Tensor, bias: Tensor, eps: float, kind: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        loops, rows, parts = pixels.loops(), pixels.rows(image), _parts(image)
        shift = image[0, :, 0, 0].float().numpy()  # near the mean, so that the squares lose no digits
        loops.moments(rows, shift, parts)
        first, second = parts.sum(0) / len(rows)
        with np.errstate(invalid="ignore"):  # values that are not finite show in the loss
            mean, variance = shift + first, np.maximum(second - first**2, 0)
        deviation = np.sqrt(variance + eps)
        scale = weight.detach().numpy() / deviation
        offset = bias.detach().numpy() - scale * mean
        ctx.scale, ctx.offset, ctx.mean = (v.astype(np.float32) for v in (scale, offset, mean))
        out = torch.empty_like(image)
        loops.activate(rows, ctx.scale, ctx.offset, kind, pixels.rows(out))
        ctx.save_for_backward(image)
        ctx.deviation, ctx.kind = deviation, kind
        moments = (torch.from_numpy(ctx.mean), _fp32(variance * len(rows) / (len(rows) - 1)))
        ctx.mark_non_differentiable(*moments)
        return out, *moments

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *rest: Tensor) -> tuple[Tensor | None, ...]:
        (image,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        loops, rows, parts, out = pixels.loops(), pixels.rows(image), _parts(image), torch.empty_like(image)
        slope = pixels.rows(gradient if ctx.kind == NONE else out)
        loops.slopes(rows, pixels.rows(gradient), ctx.scale, ctx.offset, ctx.mean, ctx.kind, slope, parts)
        of_bias, of_weight = parts.sum(0)
        of_weight /= ctx.deviation
        if ctx.needs_input_grad[0]:
            of_image = -ctx.scale * of_weight / (ctx.deviation * len(rows))
            offset = -ctx.scale * of_bias / len(rows) - of_image * ctx.mean
            factors = (of_image.astype(np.float32), slope, ctx.scale, offset.astype(np.float32))
            loops.combine(rows, *factors, pixels.rows(out))
        return out if ctx.needs_input_grad[0] else None, _fp32(of_weight), _fp32(of_bias), None, None


def _parts(image: Tensor) -> np.ndarray:
    return np.empty((torch.get_num_threads(), 2, image.shape[1]))


def _fp32(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
