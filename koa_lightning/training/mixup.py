"""Mixup and cutmix of a batch on its device: two knees in one picture, with the share of each grade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from koa_lightning.errors import InputError


@dataclass(frozen=True)
class Mixed:
    """A batch in which each picture shows its own knee and a partner's.

    Attributes:
        image: float N x 1 x H x W.
        partner: int64 N, the row of each picture's other knee.
        share: Share of the own knee, in [0.5, 1]; the partner has the rest.
    """

    image: Tensor
    partner: Tensor
    share: float

    def loss(self, loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, grade: Tensor) -> Tensor:
        """Return the losses of both grades, each with its knee's share of the picture.

        For losses that are linear in the label (cross-entropy, also of smoothed and soft labels) this is the loss of
        the mixed label. For the others (focal, EMD, Chen, CORN) it is the weighted sum of the two knees' losses, so no
        loss has to support fractional grades.
        """
        if self.share == 1.0:
            return loss(logits, grade)
        return self.share * loss(logits, grade) + (1 - self.share) * loss(logits, grade[self.partner])


class Mix(nn.Module):
    # Kornia's RandomMixUpV2 and RandomCutMixV2 are not used. They mix labels as numbers or one-hot, which only losses
    # that are linear in the label accept (CORN, EMD and Chen's do not). They also draw a share for each picture, so the
    # loss of a batch would no longer be two calls of any loss.
    """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019), one share and one kind per batch.

    The share is drawn from Beta(alpha, alpha) and folded to [0.5, 1]: a picture keeps most of its own knee. That loses
    no generality, as the mix with the roles of the two knees swapped is equally likely. Draws come from torch's CPU
    generator, so one seed gives the same numbers on every device.

    Args:
        mixup: alpha of mixup, which averages gray values; 0 turns it off.
        cutmix: alpha of cutmix, which pastes a rectangle of the partner; 0 turns it off. With both, a batch gets one.
        probability: Probability that a batch is mixed, in [0, 1].
        until: Share of the epochs after which batches are not mixed, in [0, 1]: the last epochs see real knees.

    Raises:
        InputError: A value is outside its range.
    """

    def __init__(self, mixup: float = 0.0, cutmix: float = 0.0, probability: float = 1.0, until: float = 1.0) -> None:
        super().__init__()
        for name, value, top in (("mixup", mixup, 100), ("cutmix", cutmix, 100), ("probability", probability, 1),
                                 ("until", until, 1)):  # fmt: skip
            if not 0 <= value <= top:
                raise InputError(f"mix.{name}={value}: must be from 0 to {top}")
        self.mixup, self.cutmix, self.probability, self.until = mixup, cutmix, probability, until

    def forward(self, image: Tensor, progress: float = 0.0) -> Mixed:
        """Mix a batch.

        Args:
            image: float N x 1 x H x W; not changed.
            progress: Share of the epochs that are done, in [0, 1).
        """
        if not (self.mixup or self.cutmix) or progress >= self.until or len(image) < 2:
            return _as_it_is(image)
        chance, kind, *place = torch.rand(4).tolist()
        pastes = kind < 0.5 if self.mixup and self.cutmix else self.cutmix > 0
        alpha = self.cutmix if pastes else self.mixup
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        share, partner = max(share, 1 - share), torch.randperm(len(image)).to(image.device)
        if chance >= self.probability:
            return _as_it_is(image)
        if pastes:
            return _pasted(image, partner, share, place)
        return Mixed(torch.lerp(image[partner], image, share), partner, share)


def _as_it_is(image: Tensor) -> Mixed:
    return Mixed(image, torch.arange(len(image), device=image.device), 1.0)


def _pasted(image: Tensor, partner: Tensor, share: float, place: list[float]) -> Mixed:
    """Paste a rectangle of the partner; the share follows from its area after rounding to pixels.

    The rectangle has the aspect of the picture and lies wholly within it, so its area is as drawn. The paper cuts it at
    the border.
    """
    height, width = image.shape[-2:]
    rows, columns = (int(side * (1 - share) ** 0.5) for side in (height, width))
    top, left = (int(at * (free + 1)) for at, free in zip(place, (height - rows, width - columns), strict=True))
    mixed = image.clone()
    window = (..., slice(top, top + rows), slice(left, left + columns))
    mixed[window] = image[partner][window]
    return Mixed(mixed, partner, 1 - rows * columns / (height * width))
