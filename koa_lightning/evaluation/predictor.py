"""The only way from an image to a grade, for `eval`, `predict`, the served model, training and the Python API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from koa_lightning import pretrained
from koa_lightning.checkpoint.reading import Checkpoint, read
from koa_lightning.data import patterns
from koa_lightning.data.gray import check_size, stretch
from koa_lightning.data.images import gray_of
from koa_lightning.data.one_knee import OneKnee, Reader
from koa_lightning.errors import InputError
from koa_lightning.evaluation import referral
from koa_lightning.evaluation.grading import Member, average
from koa_lightning.metrics import predictions
from koa_lightning.tracking.find import find_checkpoints
from koa_lightning.uncertainty.conformal import ALPHA

Picture = str | Path | np.ndarray | Image.Image
BATCH = 16
_SIDES = ("", "L", "R")


class Predictor:
    """Grades and explains knees with one checkpoint, or with several as an ensemble.

    An ensemble averages the calibrated probabilities of its members. It has no conformal sets and no check of inputs,
    because no knees are left to fit these on.

    Args:
        members: At least one.

    Raises:
        InputError: The members do not name the same grades.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        check_grade_names([member.checkpoint for member in members])

    @classmethod
    def from_checkpoint(
        cls, ckpt: str | Path | Sequence[str | Path], *, uri: str | None = None, device: torch.device | None = None
    ) -> Predictor:
        """Read one checkpoint or several, and build their networks.

        Args:
            ckpt: `pretrained` (the bundled grader), a file, `runs:/ID[/path]`, `models:/NAME@ALIAS`, a pattern, the
                folder of a cross-validation, or a list of these.
            uri: The tracking store in which addresses are looked up; None: the default one.
            device: Where the networks run; None: the GPU if torch finds one, else the CPU.

        Raises:
            InputError: There is no such checkpoint, or it cannot be read.
        """
        named = str(ckpt) if isinstance(ckpt, str | Path) else [str(each) for each in ckpt]
        return cls([Member(read(file), device) for file in find_checkpoints(named, uri)])

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Return the checkpoint of each member."""
        return [member.checkpoint for member in self.members]

    @property
    def caveats(self) -> list[str]:
        """Return the caveats that every result must show, e.g. phantom data."""
        return list(dict.fromkeys(caveat for each in self.checkpoints for caveat in each.caveats))

    @property
    def grade_names(self) -> tuple[str, ...]:
        """Return the names of grades 0 to 4."""
        return self.checkpoints[0].record.grade_names

    def predict(
        self,
        images: Picture | Sequence[Picture],
        *,
        side: str = "",
        flip: bool = False,
        calibrated: bool = True,
        alpha: float = ALPHA,
        refer_below: float = 0.0,
        batch_size: int = BATCH,
    ) -> pd.DataFrame:
        """Grade images of one knee each.

        Args:
            images: One or several: paths (PNG, JPEG, TIFF, WebP, BMP, DICOM), arrays H x W (uint8 as they are; uint16
                and float are stretched from their lowest to their highest value), PIL images.
            side: L or R, for all images; empty: from the DICOM header or file name, else unknown.
            flip: Also grade the mirrored images, and average the logits.
            calibrated: False: raw probabilities.
            alpha: Share of knees whose conformal set may miss the true grade: 0.01, 0.02 ... 0.5.
            refer_below: Knees whose most probable grade is less probable are referred to a reader.
            batch_size: Images in memory at once; it does not change the results.

        Returns:
            One row per image, in the given order: `path`, `patient` (from a prepared file's name), `side`, `grade`
            (empty), `predicted`, `expected_grade`, `median_grade`, `p0` to `p4`, `z0` to `z4` (logits), `name` of the
            grade, and `referral.COLUMNS`; an ensemble's table has a column `members` before `name`.

        Raises:
            InputError: An image cannot be read, or shows both knees.
        """
        names, knees = self._given(images, side)
        options: dict[str, Any] = {"flip": flip, "calibrated": calibrated, "alpha": alpha, "refer_below": refer_below}
        steps = range(0, len(knees), max(1, batch_size))
        tables = [self.grade(names[i : i + batch_size], knees[i : i + batch_size], **options) for i in steps]
        return pd.concat(tables, ignore_index=True)

    def grade(
        self,
        names: Sequence[str],
        knees: Sequence[OneKnee],
        *,
        flip: bool = False,
        calibrated: bool = True,
        alpha: float = ALPHA,
        refer_below: float = 0.0,
    ) -> pd.DataFrame:
        """Grade one batch of knees that have been read; see `predict`.

        Args:
            names: For the column `path`, one per knee.
            knees: uint8 H x W each, any size.
            flip: See `predict`.
            calibrated: See `predict`.
            alpha: See `predict`.
            refer_below: See `predict`.

        Raises:
            InputError: A network's logits are NaN or infinite.
        """
        rows = pd.DataFrame(
            {"path": list(names), "patient": [k.patient for k in knees], "side": [k.side for k in knees]}
        )
        if len(self.members) == 1:
            [member] = self.members
            images = prepared(member.checkpoint, knees)
            graded = member.grade([{"image": images}], flip=flip, calibrated=calibrated)
            described = graded.described([images]) if member.checkpoint.reference else None
            table = predictions.predictions_table(rows, graded.logits, member.link, graded.probabilities)
            advice = referral.columns(
                member.checkpoint, graded.logits, graded.probabilities.numpy(), described,
                alpha=alpha, refer_below=refer_below,
            )  # fmt: skip
        else:
            table = self._averaged(rows, knees, flip, calibrated)
            advice = referral.of_ensemble(table[predictions.PROBABILITIES].to_numpy(), refer_below)
        table["name"] = [self.grade_names[grade] for grade in table["predicted"]]
        return pd.concat([table, advice], axis=1)

    def _averaged(self, rows: pd.DataFrame, knees: Sequence[OneKnee], flip: bool, calibrated: bool) -> pd.DataFrame:
        numbered = rows.assign(path=[f"{row:09d}" for row in range(len(rows))])  # names may repeat
        tables = []
        for member in self.members:
            graded = member.grade([{"image": prepared(member.checkpoint, knees)}], flip=flip, calibrated=calibrated)
            table = predictions.predictions_table(numbered, graded.logits, member.link, graded.probabilities)
            tables.append(table)
        return average(tables).assign(path=rows["path"])

    def explain(
        self,
        images: Picture | Sequence[Picture],
        *,
        method: str = "gradcam",
        target: str = "grade",
        side: str = "",
    ) -> Any:
        """Return heat maps of the evidence for each image's predicted grade.

        Args:
            images: See `predict`.
            method: A key of `koa_lightning.explain.methods.METHODS`, or `cam`.
            target: "grade" explains the predicted grade, "expected" the expected grade.
            side: See `predict`.

        Returns:
            float32 H x W in [0, 1], as large as the original image; a list if several images were given. Rows that the
            network does not see are 0. For an ensemble, the mean over its members.

        Raises:
            InputError: An image cannot be read, or the network has no such maps.
        """
        names, knees = self._given(images, side)
        grades = [
            grade
            for i in range(0, len(knees), BATCH)
            for grade in self.grade(names[i : i + BATCH], knees[i : i + BATCH])["predicted"].tolist()
        ]
        found = [
            self.heat_map(knee, grade, method=method, target=target) for knee, grade in zip(knees, grades, strict=True)
        ]
        return found[0] if _is_one(images) else found

    def heat_map(self, knee: OneKnee, grade: int, *, method: str = "gradcam", target: str = "grade") -> np.ndarray:
        """Return the heat map of the evidence for a grade of one knee; see `explain`.

        Args:
            knee: uint8 H x W, any size.
            grade: The grade to explain, 0 to 4.
            method: See `explain`.
            target: See `explain`.

        Returns:
            float32 H x W in [0, 1].

        Raises:
            InputError: The network has no such maps.
        """
        maps = [self._heat(member, knee, grade, method, target) for member in self.members]
        return np.asarray(np.mean(maps, axis=0, dtype=np.float32))

    @staticmethod
    def _heat(member: Member, knee: OneKnee, grade: int, method: str, target: str) -> np.ndarray:
        from koa_lightning.explain.cam import heat_maps  # slow: pytorch-grad-cam imports scikit-learn

        net, preprocessing = member.net, member.checkpoint.preprocessing
        image = net.normalise(prepared(member.checkpoint, [knee]).to(member.device))
        [heat] = heat_maps(net, image, [grade], method=method, target=target, link=member.link)
        return preprocessing.restored(heat, knee.image.shape, knee.side)

    def _given(self, images: Any, side: str) -> tuple[list[str], list[OneKnee]]:
        if side not in _SIDES:
            raise InputError(f"side={side}: must be L, R, or empty if unknown")
        several = [images] if _is_one(images) else list(images)
        if not several:
            raise InputError("images: none given; give paths, arrays H x W or PIL images")
        pattern = patterns.pattern_of(dict(self.checkpoints[0].record.data_settings))
        reader = Reader(pattern, side, "auto", None, Path(), names_patients=False)
        names = [str(each) if isinstance(each, str | Path) else f"image {row}" for row, each in enumerate(several)]
        return names, [_knee(each, name, reader, side) for each, name in zip(several, names, strict=True)]


def load_model(
    ckpt: str | Path | Sequence[str | Path] = pretrained.NAME,
    *,
    uri: str | None = None,
    device: torch.device | None = None,
) -> Predictor:
    """Return the bundled grader, a checkpoint, or several as an ensemble, ready to grade.

    See `Predictor.from_checkpoint`.
    """
    return Predictor.from_checkpoint(ckpt, uri=uri, device=device)


def check_grade_names(checkpoints: Sequence[Checkpoint]) -> None:
    """Stop if the members of an ensemble do not name the same grades.

    Raises:
        InputError: It names the first member that differs.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        if other.record.grade_names != first.record.grade_names:
            ours, theirs = (", ".join(each.record.grade_names) for each in (first, other))
            raise InputError(
                f"ckpt={other.path}: its grades are {theirs}, those of {first.path} are {ours}; members of an ensemble "
                "must name the same grades"
            )


def prepared(checkpoint: Checkpoint, knees: Sequence[OneKnee]) -> torch.Tensor:
    """Return knees with a checkpoint's preprocessing, uint8 N x 1 x S x S."""
    images = [checkpoint.preprocessing.apply(knee.image, knee.side) for knee in knees]
    return torch.from_numpy(np.stack(images)).unsqueeze(1)


def _is_one(images: Any) -> bool:
    return isinstance(images, str | Path | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 2)


def _knee(image: Any, name: str, reader: Reader, side: str) -> OneKnee:
    if isinstance(image, str | Path):
        return reader.read(Path(image))
    return OneKnee(gray_of(image, name) if isinstance(image, Image.Image) else _gray_array(image, name), "", side)


def _gray_array(image: Any, name: str) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.ndim != 2 or not (
        image.dtype in (np.uint8, np.uint16) or image.dtype.kind == "f"
    ):  # fmt: skip
        what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f"{name}: {what}; give a path, a PIL image, or an array H x W of uint8, uint16 or float")
    check_size(image.shape[0], image.shape[1], name)
    return image if image.dtype == np.uint8 else stretch(image, name)
