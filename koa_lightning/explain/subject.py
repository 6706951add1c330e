"""The subject of the tests: a network, the knees, and how the network is explained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from koa_lightning.config.heat_maps import is_slow
from koa_lightning.explain.cam import heat_maps
from koa_lightning.explain.last_map import split
from koa_lightning.models import outputs
from koa_lightning.models.inference import grade_logits
from koa_lightning.models.net import KneeNet


@dataclass(frozen=True)
class Subject:
    """A network and the knees on which its explanations are tested.

    Attributes:
        net: In eval mode, on its device.
        images: float32, N x 1 x H x W, gray values in [0, 1].
        grades: int64, N: the grade to explain for each knee, which is the one predicted for the whole image.
        patients: Patient of each knee, N; "" if unknown.
        method, target: As for `koa_lightning.explain.cam.heat_maps`.
        batch_size: Images per pass.
        tick: Called with the number of images that went through the network.
    """

    net: KneeNet
    images: Tensor
    grades: np.ndarray
    patients: tuple[str, ...]
    method: str = "gradcam"
    target: str = "grade"
    batch_size: int = 32
    tick: Callable[[int], None] = lambda n: None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.images.shape[-2], self.images.shape[-1]

    @cached_property
    def last_map(self) -> tuple[int, int, int]:
        """Channels, height and width of the last map."""
        with torch.no_grad():
            device = next(self.net.parameters()).device
            parts, features = split(self.net, self.net.normalise(self.images[:1].to(device)))
        return parts.grid(features).shape[1], *parts.grid.size

    @property
    def passes_a_map(self) -> int:
        """Passes through the network that one heat map needs."""
        return 1 + (self.last_map[0] if is_slow(self.method) else 0)

    def first(self, n: int) -> "Subject":
        """Return only the first n knees; they were chosen grade by grade, so they include all grades."""
        return replace(self, images=self.images[:n], grades=self.grades[:n], patients=self.patients[:n])

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits of other images, float N x K on the CPU."""
        device = next(self.net.parameters()).device
        parts = []
        with torch.no_grad():
            for batch in images.split(self.batch_size):
                parts.append(grade_logits(self.net, batch.to(device)).cpu())
                self.tick(len(batch))
        return torch.cat(parts)

    def scores(self, images: Tensor) -> np.ndarray:
        """Return the network's outputs for changed images of these knees, in their order.

        Args:
            images: float32, N x 1 x H x W, in [0, 1].

        Returns:
            float32, N: the probability of the explained grade, or the expected grade if that is the target.
        """
        shares = outputs.probabilities(self.logits(images), self.net.spec.link)
        if self.target == "expected":
            return outputs.expected_grade(shares).numpy()
        return shares.numpy()[np.arange(len(self)), self.grades]

    def maps(self, images: Tensor | None = None, net: KneeNet | None = None) -> np.ndarray:
        """Return the heat maps of these knees, of changed images of them, or of another network.

        Args:
            images: float32, N x 1 x H x W, in [0, 1]; None for the unchanged images.
            net: The network to explain; None for the tested one.

        Returns:
            float32, N x H x W, in [0, 1].
        """
        net = net or self.net
        images = self.images if images is None else images
        maps = []
        for start in range(0, len(self), self.batch_size):
            rows = slice(start, start + self.batch_size)
            maps.append(
                heat_maps(
                    net,
                    net.normalise(images[rows]),
                    self.grades[rows],
                    method=self.method,
                    target=self.target,
                    link=net.spec.link,
                    batch_size=self.batch_size,
                )
            )
            self.tick(self.passes_a_map * len(maps[-1]))
        return np.concatenate(maps)
