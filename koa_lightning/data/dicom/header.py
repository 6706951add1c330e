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
_OF_PATIENT = ("PatientID", "StudyInstanceUID")
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
        notes: Elements that cannot be read and were taken for empty, with their values; never those of the patient.
    """

    patient: str = ""
    patient_from: str = ""
    side: str = ""
    side_from: str = ""
    spacing: tuple[float, float] | None = None
    spacing_from: str = ""
    orientation: str = ""
    burnt_in: bool = False
    notes: tuple[str, ...] = ()


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
        notes = _drop_unreadable(dataset, name)
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
        spacing = _spacing(dataset, notes)
        return Header(*_patient(dataset), *_side(dataset), *spacing, orientation, burnt, tuple(notes))


def _drop_unreadable(dataset: Dataset, name: str) -> list[str]:
    """Take out the elements whose values cannot be read: nobody may ask for them; return notes of them.

    Raises:
        InputError: It is one that tells patients apart.
    """
    notes = []
    for keyword in _TAGS:
        if keyword not in dataset:
            continue
        raw = dataset.get_item(keyword).value
        try:
            dataset.get(keyword)
        except Exception as error:  # pydicom raises many kinds, all when the value is first looked at
            if keyword in _OF_PATIENT:  # else two patients may become one, or one two
                raise InputError(
                    f"{name}: {keyword} cannot be read ({type(error).__name__}); export it again"
                ) from None
            notes.append(f"{keyword} '{_shown(raw)}'")
            del dataset[keyword]
    return notes


def _shown(raw: object) -> str:
    text = raw.decode("latin-1") if isinstance(raw, bytes) else str(raw)
    return "".join(letter if letter.isprintable() else "?" for letter in text.strip()[:40])


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


def _numbers(given: MultiValue) -> list[float]:
    """Return the values as numbers, or none of them where one is no number, such as `0,143`."""
    try:
        return [float(value) for value in given]
    except (TypeError, ValueError):
        return []


def _spacing(dataset: Dataset, notes: list[str]) -> tuple[tuple[float, float] | None, str]:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        given = dataset.get(keyword)
        values = _numbers(given) if isinstance(given, MultiValue) else []
        if len(values) == 2 and all(math.isfinite(value) and value > 0 for value in values):
            return (values[0], values[1]), keyword
        if given not in (None, ""):
            text = "\\".join(map(str, given)) if isinstance(given, MultiValue) else str(given)
            notes.append(f"{keyword} '{_shown(text)}'")
    return None, ""
