"""What `predict ... dicom=true` adds: a Secondary Capture and a Structured Report for each DICOM file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from omegaconf import DictConfig
from pydicom.dataset import Dataset

from koa_lightning.data.images import read_bytes
from koa_lightning.data.one_knee import OneKnee
from koa_lightning.errors import InputError
from koa_lightning.evaluation.grading import Member
from koa_lightning.metrics.predictions import PROBABILITIES
from koa_lightning.reporting import dicom_results
from koa_lightning.reporting.dicom_objects import STAMP, Grade
from koa_lightning.reporting.heat_maps import letters, overlay, with_words

FOLDER = "dicom"
LONGEST = 1024  # pixels of the film's longer side in a Secondary Capture: the heat map has no finer detail


def check(cfg: DictConfig) -> None:
    """Stop before any work if the results could not be written.

    Args:
        cfg: The config `predict`.

    Raises:
        InputError: The package is missing, overlays are switched off, or there are results already.
    """
    dicom_results.check_installed()
    if not (cfg.overlays and cfg.explain.enabled):
        raise InputError("dicom=true: the Secondary Capture shows the heat map; omit overlays=false and explain=none")
    place = Path(cfg.out) / FOLDER
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise InputError(f"{place}: already exists, and dicom=true overwrites nothing; name another out=FOLDER")


class DicomOutput:
    """Writes results of a checkpoint to OUT/dicom, never beside the films, which may be in an archive.

    Args:
        out: The folder of the predictions.
        member: The checkpoint.
    """

    def __init__(self, out: Path, member: Member) -> None:
        record, self.preprocessing = member.checkpoint.record, member.checkpoint.preprocessing
        self.model = dicom_results.model_of(member.checkpoint.path, record.name, record.net.name, record.version)
        self.place = out / FOLDER
        self.references: dict[str, Dataset] = {}

    def open(self, path: Path) -> None:
        """Keep the attributes that the results of a file copy from it.

        Raises:
            InputError: See `koa_lightning.reporting.dicom_results.reference_of`.
        """
        self.references[str(path)] = dicom_results.reference_of(read_bytes(path), str(path))

    def write(
        self, knee: OneKnee, heat: np.ndarray, row: Mapping[Any, Any], words: Sequence[str], name: str
    ) -> list[Path]:
        """Write the DICOM objects of a knee; return their files.

        Args:
            knee: The knee as read.
            heat: Heat map of the prepared image, float32 S x S, in [0, 1].
            row: Its row of the predictions table.
            words: Lines below the picture: grade, referral, caveats and the disclaimer.
            name: The files' base name.

        Raises:
            InputError: A file already exists.
            OSError: A file cannot be written.
        """
        shown = overlay(*_smaller(knee.image, self.preprocessing.restored(heat, knee.image.shape, knee.side)))
        picture = with_words(shown, [STAMP, *words], letters(shown))
        shares = [float(row[column]) for column in PROBABILITIES]
        grade = Grade(
            int(row["predicted"]), row["name"], shares, float(row["expected_grade"]), knee.side, tuple(words[1:])
        )
        self.place.mkdir(exist_ok=True)
        reference = self.references.pop(row["path"])
        return dicom_results.write_results(reference, np.asarray(picture), grade, self.model, self.place / name)


def _smaller(image: np.ndarray, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a film and its map, scaled down to `LONGEST` if they are larger."""
    factor = LONGEST / max(image.shape)
    if factor >= 1:
        return image, heat
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return small, np.clip(cv2.resize(np.ascontiguousarray(heat), size, interpolation=cv2.INTER_AREA), 0, 1)
