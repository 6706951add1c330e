"""A checkpoint as an MLflow model: image in, grade and probabilities out. Research use only, not a medical device.

The model that MLflow stores holds the checkpoint and the name of this module, and no code: `mlflow.pyfunc` imports the
installed package, which reads the checkpoint as `eval` and `predict` do, with `weights_only=True`.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import reading
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.gray import check_size
from koa_lightning.data.images import decode
from koa_lightning.data.one_knee import OneKnee
from koa_lightning.data.phantom.manifest import phantom_manifest
from koa_lightning.errors import InputError
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.predictor import BATCH, Predictor
from koa_lightning.metrics import predictions
from koa_lightning.models import outputs

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

    from koa_lightning.checkpoint.reading import Checkpoint

IMAGE, PIXELS, SIDE = "image", "pixels", "side"
_NUMBERS = ["expected_grade", *predictions.PROBABILITIES]
_ADVICE = ("set", "foreign", "acquisition", "refer")
_WORDS = dict.fromkeys((*_ADVICE, "note"), "string")
# MLflow handles requests in threads, and hooks record the network's features: two threads would mix them up.
# The lock belongs to the module, not to the model, as it can be neither pickled nor copied.
_ONE_AT_A_TIME = threading.Lock()
_OUTPUTS = {"grade": "long", "name": "string", **dict.fromkeys(_NUMBERS, "double"), **_WORDS}


def signature() -> ModelSignature:
    """Return the model's inputs and outputs, as MLflow checks them.

    Each row has an image in one of two columns: `image`, the bytes of a file (PNG, JPEG, TIFF, WebP, BMP, DICOM; over
    HTTP in base64), or `pixels`, its gray values (H x W, whole numbers 0..255). `side`, L or R, matters if the
    checkpoint mirrors one side.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec

    takes: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.binary, IMAGE, required=False),
        ColSpec(Array(Array(DataType.long)), PIXELS, required=False),
        ColSpec(DataType.string, SIDE, required=False),
    ]
    gives: list[ColSpec | TensorSpec] = [ColSpec(kind, name) for name, kind in _OUTPUTS.items()]
    return ModelSignature(Schema(takes), Schema(gives))


def example() -> pd.DataFrame:
    """Return one valid input row: a phantom as a PNG file."""
    path = phantom_manifest(2, 0, (0.2,) * outputs.N_GRADES)["path"].tolist()[:1]
    file = io.BytesIO()
    Image.fromarray(decode_phantoms(path, 64)[0]).save(file, format="PNG")
    return pd.DataFrame({IMAGE: [file.getvalue()]})


class KneeModel:
    """The model that `mlflow.pyfunc.load_model` wraps.

    Attributes:
        checkpoint: The checkpoint that it was read from.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._predictor = Predictor([Member(checkpoint)])
        self._note = ", ".join([DISCLAIMER, *checkpoint.caveats])

    def predict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Grade the image of each row.

        Args:
            rows: See `signature`.

        Returns:
            One row per image: `grade` (0-4), its `name`, `expected_grade`, `p0` to `p4` (calibrated if the checkpoint
            is), the conformal `set` in words, `foreign` (yes or no: out of distribution), `acquisition` (what
            differs from the images of the validation split), `refer` (why a reader should look at it), all four empty
            if the checkpoint lacks their data; and `note` (research use only, and the caveats of the checkpoint).

        Raises:
            MlflowException: A row without an image, or with one that cannot be read; the server returns
                its message with status 400.
        """
        from mlflow.exceptions import MlflowException

        try:
            if not {IMAGE, PIXELS} & set(rows.columns):  # MLflow silently removes unknown columns
                raise InputError(f"there is neither a column {IMAGE} (a file's bytes) nor a column {PIXELS}")
            knees = [self._knee(row, number) for number, row in enumerate(rows.to_dict("records"))]
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        graded = [self._grade(knees[start : start + BATCH]) for start in range(0, len(knees), BATCH)]
        return pd.concat(graded, ignore_index=True) if graded else pd.DataFrame(columns=[*_OUTPUTS])

    @staticmethod
    def _knee(row: dict[Any, Any], number: int) -> OneKnee:
        what = f"image {number}"
        data, pixels, side = (row.get(column) for column in (IMAGE, PIXELS, SIDE))
        side = side if isinstance(side, str) else ""
        if side not in ("", "L", "R"):
            raise InputError(f"{what}: side={side} must be L or R, or omitted")
        if isinstance(data, bytes | bytearray) == isinstance(pixels, list | tuple | np.ndarray):
            raise InputError(f"{what}: give either the column {IMAGE} (a file's bytes) or the column {PIXELS}")
        gray = decode(bytes(data), what) if isinstance(data, bytes | bytearray) else _pixels(pixels, what)
        return OneKnee(np.asarray(gray), "", side)

    def _grade(self, knees: list[OneKnee]) -> pd.DataFrame:
        with _ONE_AT_A_TIME:
            rows = self._predictor.grade([""] * len(knees), knees)
        rows = rows.assign(grade=rows["predicted"], note=self._note)
        return rows[[*_OUTPUTS]].astype(dict.fromkeys(_NUMBERS, "float64"))


def _pixels(values: Any, what: str) -> np.ndarray:
    """Return gray values as uint8 H x W."""
    try:
        gray = np.array([np.asarray(row) for row in values])
    except ValueError:  # rows of different lengths
        gray = np.zeros(0)
    if not gray.size or gray.ndim != 2 or gray.dtype.kind not in "iu" or gray.min() < 0 or gray.max() > 255:
        raise InputError(f"{what}: {PIXELS} must be rows of equal length, of whole numbers from 0 to 255")
    check_size(gray.shape[0], gray.shape[1], what)
    return gray.astype(np.uint8)


def _load_pyfunc(path: str) -> KneeModel:
    """Read the checkpoint of a stored model; MLflow calls this function by name.

    Args:
        path: Path of the checkpoint.

    Raises:
        InputError: It cannot be read.
    """
    return KneeModel(reading.read(Path(path)))
