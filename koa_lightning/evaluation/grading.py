"""One checkpoint as a grader of batches: logits, probabilities, and the features for the check of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.errors import InputError
from koa_lightning.metrics import predictions
from koa_lightning.models import outputs
from koa_lightning.models.inference import check_finite, grade_batches
from koa_lightning.models.net import KneeNet
from koa_lightning.uncertainty import out_of_distribution, recalibrated

if TYPE_CHECKING:
    from koa_lightning.data.datamodule import KneeDataModule

# The last bits of a result depend on how many images go through the network together. This number is fixed, so that a
# knee gets the same bytes from `eval` and `predict`, alone or with others. On a CPU four are about as fast as sixteen;
# a GPU needs more.
N_AT_ONCE, N_AT_ONCE_GPU = 4, 32
_TINY = 1e-12  # the smallest probability whose logarithm is written


def default_device() -> torch.device:
    """Return the GPU where torch finds one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Graded:
    """Images that one network has graded; all tensors on the CPU.

    Attributes:
        logits: float32, N x K.
        probabilities: float32, N x 5, in [0, 1]; calibrated if requested.
        features: float32, N x C, the pooled features of the images, not mirrored.
    """

    logits: Tensor
    probabilities: Tensor
    features: Tensor

    def described(self, images: Iterable[Tensor]) -> dict[str, np.ndarray]:
        """Return the descriptions that the check of inputs compares, see `out_of_distribution.describe`.

        Args:
            images: The graded images, in batches uint8 n x 1 x H x W.
        """
        return out_of_distribution.describe(images, [self.features])


@dataclass(frozen=True)
class GradedSplit(Graded):
    """A split that one network has graded.

    Attributes:
        table: The predictions, see `koa_lightning.metrics.predictions`.
    """

    table: pd.DataFrame


class Member:
    """A checkpoint with its network on a device; a `Predictor` has one, an ensemble several.

    Args:
        checkpoint: The checkpoint as read.
        device: Where the network runs; None: see `default_device`.

    Raises:
        InputError: The weights do not match the record.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | None = None) -> None:
        self.checkpoint, self.device = checkpoint, device or default_device()
        self.net: KneeNet = checkpoint.network().to(self.device)
        self.link = checkpoint.record.net.link
        self.n_at_once = N_AT_ONCE if self.device.type == "cpu" else N_AT_ONCE_GPU

    def probabilities(self, logits: Tensor, calibrated: bool = True) -> Tensor:
        """Return this checkpoint's grade probabilities for its network's logits; nothing else computes them.

        Args:
            logits: Float, N x K.
            calibrated: False: raw probabilities, whatever was fitted.

        Returns:
            float32, N x 5, in [0, 1].
        """
        entry = self.checkpoint.record.fitted.calibration if calibrated else None
        return recalibrated.probabilities(logits, self.link, entry)

    def grade(self, batches: Iterable[Mapping[str, Tensor]], *, flip: bool = False, calibrated: bool = True) -> Graded:
        """Grade prepared images.

        Args:
            batches: Each with `image`, uint8 n x 1 x H x W, with the checkpoint's preprocessing.
            flip: Also grade the mirrored images, and average the logits.
            calibrated: False: raw probabilities.

        Raises:
            InputError: A logit is NaN or infinite.
        """
        found, features = [], []
        with out_of_distribution.watching(self.net) as seen:
            for batch in batches:
                for images in batch["image"].split(self.n_at_once):
                    [logits] = grade_batches(self.net, [{"image": _filled(images, self.n_at_once)}], self.device, flip)
                    found.append(logits[: len(images)])
                    features.append(seen[0][: len(images)])  # seen[1] has those of the mirrored images
                    seen.clear()
        logits = torch.cat(found)
        check_finite(logits, self.checkpoint.path)
        return Graded(logits, self.probabilities(logits, calibrated), torch.cat(features))

    def grade_split(
        self, data: KneeDataModule, split: str, *, flip: bool = False, calibrated: bool = True
    ) -> GradedSplit:
        """Grade a prepared split.

        Args:
            data: The data with that split.
            split: Its name.
            flip: See `grade`.
            calibrated: See `grade`.

        Raises:
            InputError: A logit is NaN or infinite.
        """
        graded = self.grade(data.eval_dataloader(split), flip=flip, calibrated=calibrated)
        table = predictions.predictions_table(data.tables[split], graded.logits, self.link, graded.probabilities)
        return GradedSplit(graded.logits, graded.probabilities, graded.features, table)


def _filled(images: Tensor, n: int) -> Tensor:
    """Return the images, followed by black ones, n in all."""
    missing = n - len(images)
    return torch.cat([images, images.new_zeros(missing, *images.shape[1:])]) if missing else images


def average(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the mean probabilities of each knee over the members that graded it, as a predictions table.

    Its logits are the logarithms of the averaged probabilities (softmax restores these). The last column, `members`,
    counts the members that graded the knee. The knees are sorted by path.

    Args:
        tables: Predictions tables; a knee in two of them has the same grade in both.

    Raises:
        InputError: Two members' data give a knee different grades.
    """
    every = pd.concat(tables, ignore_index=True)
    by_knee = every.groupby("path", sort=True)
    if (grades := by_knee["grade"].nunique(dropna=False)).gt(1).any():
        raise InputError(f"{grades.idxmax()}: the members' data give it different grades; give one data=... for all")
    mean = by_knee[predictions.PROBABILITIES].mean()
    frame = every.drop_duplicates("path").sort_values("path", ignore_index=True)
    p = mean.to_numpy(dtype=np.float64)
    p /= p.sum(axis=1, keepdims=True)
    frame[predictions.PROBABILITIES] = p
    frame["predicted"] = p.argmax(axis=1)
    frame["expected_grade"] = p @ np.arange(p.shape[1])
    frame["median_grade"] = outputs.median_grade(torch.from_numpy(p)).numpy()
    frame[predictions.LOGITS] = np.log(np.maximum(p, _TINY))
    frame["members"] = by_knee.size().to_numpy()
    return frame
