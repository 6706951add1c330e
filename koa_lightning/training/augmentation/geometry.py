"""Consecutive geometric operations of Kornia as one warp: their matrices are multiplied, the batch is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from kornia.augmentation import (
    GeometricAugmentationBase2D,
    RandomAffine,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomRotation90,
    RandomShear,
    RandomTranslate,
    RandomVerticalFlip,
)
from kornia.geometry.transform import warp_perspective
from torch import Tensor
from torch.nn import functional as F

from koa_lightning.training.augmentation.tensors import Operation, Params, moved, unit

MIRRORS = (RandomHorizontalFlip, RandomVerticalFlip)
WARPS = (RandomAffine, RandomPerspective, RandomRotation, RandomRotation90, RandomShear, RandomTranslate)
# What a row's matrix is: by these it is left, mirrored along these axes, or interpolated.
_LEFT, _AFFINE, _PROJECTIVE = "left", "affine", "projective"
_AXES: dict[str, tuple[int, ...]] = {"left-right": (-1,), "up-down": (-2,), "both": (-2, -1)}


@dataclass(frozen=True)
class Sampling:
    """How a warp reads the picture.

    Attributes:
        mode: `bilinear`, `nearest` or `bicubic`.
        padding: What is outside: `zeros`, `border` or `reflection`.
        corners: `align_corners` of torch, where it matters: only the axis that `reflection` mirrors at depends on it.
    """

    mode: str
    padding: str
    corners: bool


def is_fusible(operation: object) -> bool:
    """Tell whether an operation is a warp by a matrix; a subclass may do more, so it is not."""
    if type(operation) in WARPS:
        return operation.flags.get("fill_value") is None  # type: ignore[attr-defined]
    return type(operation) in MIRRORS


def sampling(operation: Operation) -> Sampling | None:
    """Return how an operation reads the picture; None: it mirrors, and takes what its neighbours have."""
    if type(operation) in MIRRORS:
        return None
    flags = operation.flags
    padding = flags["padding_mode"].name.lower() if "padding_mode" in flags else "zeros"
    corners = bool(flags["align_corners"]) and padding == "reflection"
    return Sampling(flags["resample"].name.lower(), padding, corners)


class Warp:
    """One warp of one batch.

    What one operation moves out of the picture and the next moves back is kept, where Kornia's sequence, which writes
    a picture in between, has cut it off.

    Args:
        operations: Fusible ones with the same sampling.
        params: What each drew.
        shape: Of the batch, N x 1 x H x W.
        how: The sampling; None: they only mirror.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        params: Sequence[Params],
        shape: Sequence[int],
        how: Sampling | None,
    ) -> None:
        self.how = how or Sampling("bilinear", "zeros", False)
        n, height, width = shape[0], shape[-2], shape[-1]
        no_pixels = torch.empty(()).expand(tuple(shape))  # Kornia reads its shape; the matrices are made on the CPU
        matrix = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
        for operation, drawn in zip(operations, params, strict=True):
            warp = cast(GeometricAugmentationBase2D, operation)
            own = warp.generate_transformation_matrix(no_pixels, drawn, operation.flags)
            matrix = own.double() @ matrix
        self.matrix = matrix
        self.kinds = _kinds(matrix, height, width)
        self.lines = _lines(matrix, height, width, self.how.corners)

    @property
    def stays_in_range(self) -> bool:
        """Whether gray values in [0, 1] stay there."""
        return self.how.mode != "bicubic" or not {_AFFINE, _PROJECTIVE} & set(self.kinds)

    def write(self, output: Tensor, image: Tensor, first: int) -> None:
        """Warp some rows of the batch.

        Args:
            output: float32 m x 1 x H x W, written.
            image: The rows before the warp, uint8 or float in [0, 1], not the same memory.
            first: Number of the first of them in the batch.
        """
        kinds = self.kinds[first : first + len(image)]
        if all(kind == _AFFINE for kind in kinds):
            output.copy_(self._affine(unit(image), range(first, first + len(image))))
            return
        if image.dtype == torch.uint8:
            torch.div(image, 255, out=output)
        else:
            output.copy_(image)
        for kind in sorted(set(kinds) - {_LEFT}):
            rows = [row for row, its in enumerate(kinds) if its == kind]
            index = moved(torch.tensor(rows), output, torch.long)
            before, numbers = output.index_select(0, index), [first + row for row in rows]
            if kind in _AXES:
                after = before.flip(_AXES[kind])
            else:
                after = self._affine(before, numbers) if kind == _AFFINE else self._projective(before, numbers)
            output.index_copy_(0, index, after)

    def _affine(self, image: Tensor, rows: Sequence[int]) -> Tensor:
        """Interpolate float32 rows; the grid is an outer sum written in place, cheaper than `F.affine_grid`."""
        height, width = image.shape[-2:]
        chosen = moved(self.lines[list(rows)], image)  # m x 2 x 3: of x, of y, and the constant
        x, y = (torch.arange(side, device=image.device, dtype=torch.float32) for side in (width, height))
        grid = torch.empty(len(image), height, width, 2, device=image.device)
        for axis in range(2):
            of_x, of_y, constant = chosen[:, axis].unbind(1)
            along = torch.addcmul(constant[:, None], of_x[:, None], x)
            torch.add(along[:, None, :], (of_y[:, None] * y)[:, :, None], out=grid[..., axis])
        return F.grid_sample(
            image, grid, mode=self.how.mode, padding_mode=self.how.padding, align_corners=self.how.corners
        )

    def _projective(self, image: Tensor, rows: Sequence[int]) -> Tensor:
        matrix = moved(self.matrix[list(rows)].float(), image)
        size = (image.shape[-2], image.shape[-1])
        warped: Tensor = warp_perspective(
            image, matrix, size, self.how.mode, self.how.padding, align_corners=self.how.corners
        )
        return warped


def _kinds(matrix: Tensor, height: int, width: int) -> list[str]:
    """Return for each row what its matrix N x 3 x 3 is; exact numbers identify mirrors."""
    n, flat = len(matrix), matrix.flatten(1)
    affine = (flat[:, 6:] == torch.tensor([0.0, 0.0, 1.0], dtype=flat.dtype)).all(1)
    kinds = [_AFFINE if each else _PROJECTIVE for each in affine.tolist()]
    for name, x, y in ((_LEFT, 1, 1), ("left-right", -1, 1), ("up-down", 1, -1), ("both", -1, -1)):
        far_x, far_y = (width - 1) * (x < 0), (height - 1) * (y < 0)
        exact = torch.tensor([x, 0, far_x, 0, y, far_y, 0, 0, 1], dtype=flat.dtype)
        same = (flat == exact).all(1).tolist()
        kinds = [name if same[row] else kinds[row] for row in range(n)]
    return kinds


def _lines(matrix: Tensor, height: int, width: int, corners: bool) -> Tensor:
    """Return float32 N x 2 x 3: where output pixel (x, y) reads the input, from -1 to 1, is `of_x x + of_y y + c`."""
    inverse = torch.linalg.inv_ex(matrix).inverse
    sides = torch.tensor([width, height], dtype=matrix.dtype).view(1, 2, 1)
    spans = (sides - 1).clamp(min=1) if corners else sides
    lines = 2 * inverse[:, :2] / spans
    lines[:, :, 2:] += (0 if corners else 1 / sides) - 1
    return lines.nan_to_num().float()
