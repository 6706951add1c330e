"""Check that an exported file grades as its checkpoint does; every export is measured, and refused if it differs."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.evaluation.grading import Member
from koa_lightning.explain.cam import heat_maps
from koa_lightning.models.exported import Program

TOLERANCE = 1e-4  # of a probability, in fp32
SAME_MAP = 0.999  # the lowest correlation of two heat maps, in fp32
N_KNEES, N_NOISE = 64, 16
_BATCH = 8
_FLAT = 1e-6  # below this spread a map is too flat to compare


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from its checkpoint.

    Attributes:
        images: The compared images, in words.
        largest: The largest difference of a probability.
        same_grade: Share of images with the same most probable grade.
        cam: The lowest correlation of two heat maps; None if the file has no heat map.
    """

    images: str
    largest: float
    same_grade: float
    cam: float | None

    def to_plain(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)

    def words(self) -> str:
        """Return the agreement as one line."""
        maps = "no heat map" if self.cam is None else f"heat maps correlate at {self.cam:.4f} or more"
        return (
            f"{self.images}: probabilities within {self.largest:.1e}, the same grade for {self.same_grade:.1%}, {maps}"
        )

    def check(self) -> None:
        """Check that an export in fp32 agrees with its checkpoint.

        Raises:
            InputError: It does not; the message names the difference.
        """
        if not self.largest <= TOLERANCE:
            raise InputError(
                f"the export differs from the checkpoint by {self.largest:.1e} in a probability ({TOLERANCE:.0e} is "
                "allowed), so nothing was written; try another format"
            )
        if self.cam is not None and not self.cam >= SAME_MAP:
            raise InputError(
                f"the export's heat maps correlate with the checkpoint's at {self.cam:.4f} ({SAME_MAP} is needed), so "
                "nothing was written; try another format"
            )


def noise(image_size: int) -> Tensor:
    """Return images of random gray values, uint8 N x 1 x S x S."""
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (N_NOISE, 1, image_size, image_size), dtype=torch.uint8, generator=drawn)


def compare(members: list[Member], program: Program, images: Tensor, words: str) -> Parity:
    """Return how far a program is from the networks that it was made from.

    Args:
        members: One member, or those of an ensemble.
        program: The exported program.
        images: uint8 N x 1 x S x S, prepared.
        words: The images in words.
    """
    batches = images.split(_BATCH)
    given = [program(batch.numpy()) for batch in batches]
    theirs = np.concatenate([each["probabilities"] for each in given])
    each = [member.grade([{"image": images}]).probabilities.double().numpy() for member in members]
    ours = np.mean(each, axis=0)
    ours /= ours.sum(1, keepdims=True)
    lowest = None
    if "cam" in given[0] and len(members) == 1:
        theirs_maps = np.concatenate([each["cam"] for each in given])
        lowest = _lowest_correlation(members[0], images, theirs.argmax(1), theirs_maps)
    largest = float(np.abs(ours - theirs).max()) if np.isfinite(theirs).all() else float("inf")
    return Parity(words, largest, float((ours.argmax(1) == theirs.argmax(1)).mean()), lowest)


def _lowest_correlation(member: Member, images: Tensor, grades: np.ndarray, maps: np.ndarray) -> float:
    size = (images.shape[-1], images.shape[-2])
    ours = heat_maps(member.net, member.net.normalise(images), grades, method="cam", link=member.link)
    theirs = scale_cam_image(scale_cam_image(maps, size))
    found = [1.0]
    for one, other in zip(ours, theirs, strict=True):
        if one.std() > _FLAT or other.std() > _FLAT:
            found.append(float(np.nan_to_num(np.corrcoef(one.ravel(), other.ravel())[0, 1])))
    return min(found)
