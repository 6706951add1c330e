"""Grade images with a network; validation, `eval` and `predict` all use these functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.models.net import KneeNet


def grade_logits(net: KneeNet, image: Tensor, flip: bool = False) -> Tensor:
    """Return float32 logits N x K of images uint8 N x 1 x H x W, computed in fp32 regardless of autocast.

    Args:
        net: In eval mode.
        image: On the network's device.
        flip: Also grade the mirrored image and average the logits.
    """
    with torch.autocast(image.device.type, enabled=False):
        x = net.normalise(image)  # one channel: the weights determine the memory format
        logits = net(x).float()
        if flip:
            logits = (logits + net(x.flip(-1)).float()) / 2
    return logits


@torch.no_grad()
def grade_batches(
    net: KneeNet, batches: Iterable[dict[str, Tensor]], device: torch.device, flip: bool = False
) -> Iterator[Tensor]:
    """Yield the logits of each batch on the CPU; the network is set to eval mode."""
    net.eval()
    for batch in batches:
        yield grade_logits(net, batch["image"].to(device), flip).cpu()


def check_finite(logits: Tensor, path: Path) -> None:
    """Stop if logits are NaN or infinite: a knee would be graded 0.

    Args:
        logits: float N x K.
        path: The checkpoint, for the message.

    Raises:
        InputError: A logit is NaN or infinite.
    """
    if not torch.isfinite(logits).all():
        raise InputError(f"{path}: its network gives NaN or infinite logits, so its weights are damaged; give another")
