"""Batch norm over the batches of all devices (`trainer.sync_batchnorm=true`), on any kind of device.

torch's own version needs a GPU, and would lose the activation that timm's batch norms compute.
"""

from __future__ import annotations

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce


def join(net: nn.Module) -> int:
    """Make all batch norms of a network compute over all devices, in place; return how many there are.

    The names of parameters and buffers stay.
    """
    found = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in found:
        module.__class__ = _JointAct if isinstance(module, BatchNormAct2d) else _Joint
    return len(found)


def separate(net: nn.Module) -> None:
    """Make the batch norms compute per device again, in place."""
    for module in net.modules():
        if isinstance(module, _JointAct | _Joint):
            kind: type[nn.Module] = BatchNormAct2d if isinstance(module, _JointAct) else nn.BatchNorm2d
            module.__class__ = kind  # type: ignore[assignment]


class _Joint(nn.BatchNorm2d):
    def forward(self, image: Tensor) -> Tensor:
        return _normalised(self, image) if _is_shared(self) else super().forward(image)


class _JointAct(BatchNormAct2d):
    def forward(self, image: Tensor) -> Tensor:
        if not _is_shared(self):
            return super().forward(image)
        return self.act(self.drop(_normalised(self, image)))


def _is_shared(norm: nn.BatchNorm2d) -> bool:
    return norm.training and dist.is_initialized() and dist.get_world_size() > 1


def _normalised(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    """Return the batch, normalised by the moments of all devices' batches (Ioffe and Szegedy 2015); N x C x H x W."""
    x = image.float()
    channels = x.shape[1]
    size = x.new_full((1,), x.numel() / channels)
    first = all_reduce(torch.cat([x.sum((0, 2, 3)), size]))
    n = first[-1].detach()
    mean = (first[:-1] / n)[:, None, None]
    centred = x - mean
    variance = all_reduce(centred.square().sum((0, 2, 3))) / n
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        with torch.no_grad():
            norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            momentum = 1 / norm.num_batches_tracked.float() if norm.momentum is None else norm.momentum  # type: ignore[union-attr]
            norm.running_mean.lerp_(mean.detach().flatten().to(norm.running_mean.dtype), momentum)
            norm.running_var.lerp_((variance.detach() * n / (n - 1)).to(norm.running_var.dtype), momentum)
    scale = torch.rsqrt(variance + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    out = centred * scale[:, None, None]
    return (out if norm.bias is None else out + norm.bias[:, None, None]).to(image.dtype)
