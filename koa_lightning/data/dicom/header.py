"""The data read from a DICOM header: patient (to be hashed), side, view and pixel spacing; nothing else."""

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
# A single letter is a side only next to the joint: "KNEE L", not "L SPINE"; "R/O" means to rule out.
_WORDS = re.compile(r"\b(LEFT|RIGHT|LT|RT)\b|\b([LR])[ _-]+KNEES?\b|\bKNEES?[ _-]+([LR])\b(?!/O\b)")
_LEFT, _RIGHT, _AND = r"\b(?:LEFT|LT|L)\b", r"\b(?:RIGHT|RT|R)\b", r"\W+(?:AND\W+)?"
# "R/L", "L AND R", even if only one of them is next to the joint.
_BOTH = re.compile(rf"\bBOTH\b|\bBILAT|\bB/L\b|{_LEFT}{_AND}{_RIGHT}(?!/O\b)|{_RIGHT}(?!/O\b){_AND}{_LEFT}")


@dataclass(frozen=True)
class Header:
    r"""Facts about a picture besides its pixels.

    Attributes:
        patient: The original id, in memory only; empty if there is none.
        patient_from: The tag of the id.
        side: L, R or empty.
        side_from: The tag of the side.
        spacing: mm from row to row and from column to column; None where unknown.
        spacing_from: The tag of the spacing.
        orientation: PatientOrientation: directions of rows and columns, e.g. `L\F`; empty if unknown.
        burnt_in: Whether the header says that text is burnt into the picture.
        notes: Unreadable elements, treated as empty, with their values; never those of the patient.
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
    """Read the header of a DICOM file; a file that is not DICOM gives an empty header, and decoding it fails later.

    Args:
        data: The whole file.
        name: Its name in error messages.
        burnt_in: Whether to accept pictures whose header says that text is burnt in.

    Raises:
        InputError: The header is damaged, the view is lateral, or text is burnt in.
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
            raise InputError(f"{name}: a lateral view (ViewPosition {view}); only frontal views can be graded")
        burnt = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
        if burnt and not burnt_in:
            raise InputError(
                f"{name}: text is burnt into the picture (BurnedInAnnotation YES), which may be a name; check it, "
                "and type burnt_in=true if it is not"
            )
        orientation = "\\".join(str(letter) for letter in dataset.get("PatientOrientation") or ())
        spacing = _spacing(dataset, notes)
        return Header(*_patient(dataset), *_side(dataset), *spacing, orientation, burnt, tuple(notes))


def _drop_unreadable(dataset: Dataset, name: str) -> list[str]:
    """Remove the elements whose values cannot be read, since any later access would raise; return notes of them.

    Raises:
        InputError: The element identifies the patient.
    """
    notes = []
    for keyword in _TAGS:
        if keyword not in dataset:
            continue
        raw = dataset.get_item(keyword).value
        try:
            dataset.get(keyword)
        except Exception as error:  # pydicom raises many types, all on first access to the value
            if keyword in _OF_PATIENT:  # else patients could be merged or split
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
    # A study has one patient, so its knees stay together if the id is empty.
    for keyword in ("PatientID", "StudyInstanceUID"):
        if value := str(dataset.get(keyword) or "").strip():
            return value, keyword
    return "", ""


def _side(dataset: Dataset) -> tuple[str, str]:
    for keyword in ("ImageLaterality", "Laterality"):
        value = str(dataset.get(keyword) or "").strip().upper()
        if value in SIDES:
            return SIDES[value], keyword
        if value.startswith("B"):  # both knees: the description cannot narrow it to one
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
    """Return the values as numbers; an empty list if any of them is not a number, such as `0,143`."""
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
