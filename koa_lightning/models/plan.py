"""How a network computes: precision, memory format, and the layers that suit them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from koa_lightning.models.cpu import depthwise, faster, norm

LIGHTNING = {"fp32": "32-true", "bf16": "bf16-mixed", "bf16-hybrid": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Plan:
    """How a run computes.

    Attributes:
        precision: `fp32`, `bf16`, `bf16-hybrid` (bf16 with depthwise convolutions in fp32) or `fp16`.
        channels_last: Memory format of weights and activations.
        reason: Why this plan was chosen, for the log.
    """

    precision: str
    channels_last: bool
    reason: str

    @property
    def lightning(self) -> str:
        """Return Lightning's name for the precision."""
        return LIGHTNING[self.precision]

    @property
    def imitated(self) -> bool:
        """Return whether this CPU has to compute in fp32 what the plan wants in bf16."""
        return self.precision.startswith("bf16") and not cpu_has_bf16()

    def prepare(self, net: nn.Module) -> nn.Module:
        """Adapt a network to this plan, in place; the names of its parameters stay."""
        if self.precision in ("fp32", "bf16-hybrid"):
            depthwise.in_fp32(net)
        elif self.precision == "bf16":
            depthwise.backward_where_fast(net)
        norm.join_activations(net)
        faster.spare_squeeze(net)
        faster.spare_activations(net)
        return net.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def cpu_has_bf16() -> bool:
    """Return whether this CPU multiplies in bf16 (AVX512-BF16 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
