"""What is taken over from a DICOM header: patient (to be hashed), side, view and pixel spacing; nothing else."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from koa_lightning.data.dicom.pixels import check_inflated
from koa_lightning.data.gray import input_errors
from koa_lightning.errors import InputError

SIDES = {"L": "L", "LEFT": "L", "LT": "L", "R": "R", "RIGHT": "R", "RT": "R"}
LATERAL = {"LL", "RL", "LAT", "LATERAL"}
_TAGS = (
    "PatientID", "StudyInstanceUID", "ImageLaterality", "Laterality", "SeriesDescription", "ViewPosition",
    "ImagerPixelSpacing", "PixelSpacing", "BurnedInAnnotation", "PatientOrientation",
)  # fmt: skip
# A single letter is a side only beside the joint: "KNEE L", not "L SPINE"; "R/O" is to rule out.
_WORDS = re.compile(r"\b(LEFT|RIGHT|LT|RT)\b|\b([LR])[ _-]+KNEES?\b|\bKNEES?[ _-]+([LR])\b(?!/O\b)")
_LEFT, _RIGHT, _AND = r"\b(?:LEFT|LT|L)\b", r"\b(?:RIGHT|RT|R)\b", r"\W+(?:AND\W+)?"
# "R/L", "L AND R", also where only one of them is beside the joint.
_BOTH = re.compile(rf"\bBOTH\b|\bBILAT|\bB/L\b|{_LEFT}{_AND}{_RIGHT}(?!/O\b)|{_RIGHT}(?!/O\b){_AND}{_LEFT}")


@dataclass(frozen=True)
class Header:
    r"""What is known of a picture besides its pixels.

    Attributes:
        patient: The original id, in memory only; empty where there is none.
        patient_from: The tag that it is from.
        side: L, R or empty.
        side_from: The tag that it is from.
        spacing: mm from row to row and from column to column; None where unknown.
        spacing_from: The tag that it is from.
        orientation: PatientOrientation: where rows and columns point to, e.g. `L\F`; empty where unknown.
        burnt_in: It says that text is burnt into the picture.
    """

    patient: str = ""
    patient_from: str = ""
    side: str = ""
    side_from: str = ""
    spacing: tuple[float, float] | None = None
    spacing_from: str = ""
    orientation: str = ""
    burnt_in: bool = False


def read_header(data: bytes, name: str, burnt_in: bool) -> Header:
    """Read the header of a DICOM file; a file that is not DICOM at all is left to who decodes its pixels.

    Args:
        data: The whole file.
        name: What error messages call it.
        burnt_in: Whether to take pictures whose header says that text is burnt into them.

    Raises:
        InputError: A damaged header, a lateral view, or burnt-in text.
    """
    with input_errors(name, "damaged DICOM file"):
        check_inflated(data, name)
        try:
            dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=list(_TAGS))
        except InvalidDicomError:
            return Header()
        view = str(dataset.get("ViewPosition") or "").upper()
        if LATERAL & set(re.findall(r"[A-Z]+", view)):
            raise InputError(f"{name}: a lateral view (ViewPosition {view}); grades are of frontal views")
        burnt = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
        if burnt and not burnt_in:
            raise InputError(
                f"{name}: text is burnt into the picture (BurnedInAnnotation YES), which may be a name; look at it, "
                "and type burnt_in=true where it is none"
            )
        orientation = "\\".join(str(letter) for letter in dataset.get("PatientOrientation") or ())
        return Header(*_patient(dataset), *_side(dataset), *_spacing(dataset), orientation, burnt)


def _patient(dataset: Dataset) -> tuple[str, str]:
    # A study is of one patient, so its knees stay together where the id is empty.
    for keyword in ("PatientID", "StudyInstanceUID"):
        if value := str(dataset.get(keyword) or "").strip():
            return value, keyword
    return "", ""


def _side(dataset: Dataset) -> tuple[str, str]:
    for keyword in ("ImageLaterality", "Laterality"):
        value = str(dataset.get(keyword) or "").strip().upper()
        if value in SIDES:
            return SIDES[value], keyword
        if value.startswith("B"):  # both: no word of the description can mean one
            return "", keyword
    for keyword in ("SeriesDescription", "ViewPosition"):
        text = str(dataset.get(keyword) or "").upper().replace("_", " ")
        if _BOTH.search(text):
            return "", keyword
        sides = {SIDES[next(filter(None, found))] for found in _WORDS.findall(text)}
        if len(sides) == 1:
            return sides.pop(), keyword
        if sides:
            return "", keyword
    return "", ""


def _spacing(dataset: Dataset) -> tuple[tuple[float, float] | None, str]:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        given = dataset.get(keyword)
        values = [float(value) for value in given] if isinstance(given, MultiValue) else []
        if len(values) == 2 and all(math.isfinite(value) and value > 0 for value in values):
            return (values[0], values[1]), keyword
    return None, ""
