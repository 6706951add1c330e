"""Training at an image size that grows towards that of evaluation: a batch is resized on its device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from koa_lightning.errors import InputError

STEP = 16  # pixels: sizes in between leave the last feature map's edge half empty


class Resize(nn.Module):
    """Progressive resizing: early epochs train on small pictures, which costs less and regularises (Tan and Le 2021).

    Args:
        first: Size in the first epoch, as a share of the full size, in (0, 1].
        last: Size from `until` on, as a share, in (0, 1]; below 1 the network is evaluated at a larger size than it
            was trained at, which suits a network trained with zooming (Touvron et al. 2019).
        until: Share of the epochs after which the size stays `last`, in [0, 1]; before it grows evenly.

    Raises:
        InputError: A value is outside its range.
    """

    def __init__(self, first: float = 1.0, last: float = 1.0, until: float = 0.6) -> None:
        super().__init__()
        for name, value in (("first", first), ("last", last)):
            if not 0 < value <= 1:
                raise InputError(f"resize.{name}={value}: must be above 0 and at most 1")
        if not 0 <= until <= 1:
            raise InputError(f"resize.until={until}: must be from 0 to 1")
        self.first, self.last, self.until = first, last, until

    def size(self, full: int, progress: float) -> int:
        """Return the side in pixels, a multiple of 16 unless it is the full one.

        Args:
            full: The side of the pictures, in pixels.
            progress: Share of the epochs that are done, in [0, 1).
        """
        done = min(1.0, progress / self.until) if self.until > 0 else 1.0
        share = self.first + (self.last - self.first) * done
        return full if share == 1.0 else min(full, max(STEP, round(full * share / STEP) * STEP))

    @torch.no_grad()
    def forward(self, image: Tensor, progress: float = 0.0) -> Tensor:
        """Return the batch at the size of the current epoch.

        Args:
            image: uint8 N x 1 x H x W, square.
            progress: See `size`.

        Returns:
            The unchanged uint8 batch at full size; else float in [0, 1], N x 1 x S x S, antialiased.
        """
        side = self.size(image.shape[-1], progress)
        if side == image.shape[-1]:
            return image
        small = F.interpolate(image.float(), (side, side), mode="bilinear", antialias=True)
        return small.div_(255).clamp_(0, 1)
