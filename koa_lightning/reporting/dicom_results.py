"""Write grades as DICOM files, with the patient and study fields of the graded file.

Research use only, not a medical device.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID

from koa_lightning.data.gray import one_line
from koa_lightning.data.images import is_dicom
from koa_lightning.data.one_knee import DicomError
from koa_lightning.errors import InputError, naming
from koa_lightning.reporting.dicom_objects import Grade, Model, secondary_capture, structured_report

_INSTANCE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_PATIENT = (
    "PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate",
    "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_OTHER = ("Modality", "SpecificCharacterSet", "PatientOrientation", "BurnedInAnnotation")


def check_installed() -> None:
    """Check that highdicom, which writes DICOM objects, is installed.

    Raises:
        InputError: It is not installed.
    """
    if find_spec("highdicom") is None:
        raise InputError('dicom=true: needs the package highdicom; type pip install "koa-lightning[dicom]"')


def model_of(file: Path, name: str, network: str, version: str) -> Model:
    """Return the identity of a checkpoint file, with its checksum."""
    with file.open("rb") as opened:
        return Model(name, network, version, hashlib.file_digest(opened, "sha256").hexdigest())


def reference_of(data: bytes, name: str) -> Dataset:
    """Return the fields that results copy from a DICOM file: patient, study and identity of the image only.

    Args:
        data: The whole file.
        name: Its name in error messages.

    Raises:
        InputError: It is not a DICOM file.
        DicomError: Its header names no study or image, or its patient fields cannot be copied.
    """
    if not is_dicom(data, name):
        raise InputError(
            f"{name}: not a DICOM file, so dicom=true has no patient and no study to report on; omit dicom=true, or "
            "give the DICOM file"
        )
    try:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=[*_INSTANCE, *_PATIENT, *_OTHER])
    except Exception as error:  # pydicom raises many kinds of error
        raise DicomError(
            f"{name}: damaged DICOM file ({type(error).__name__}); export it again", name
        ) from None  # fmt: skip
    missing = [keyword for keyword in _INSTANCE if not str(header.get(keyword) or "").strip()]
    if missing:
        raise DicomError(
            f"{name}: its header has no {', '.join(missing)}, so no result can refer to it; export it again, or omit "
            "dicom=true", name
        )  # fmt: skip
    reference = Dataset()

    def take() -> None:
        for keyword in (*_INSTANCE, *_PATIENT, *_OTHER):
            if keyword in header:
                setattr(reference, keyword, header.get(keyword))
            elif keyword in _PATIENT and keyword != "IssuerOfPatientID":
                setattr(reference, keyword, "")
        if bad := [keyword for keyword in _INSTANCE if not UID(str(reference.get(keyword))).is_valid]:
            raise ValueError(f"{bad[0]} is not a valid UID")
        # try to write now, before any knee is graded
        trial, blank = Grade(0, "-", (1, 0, 0, 0, 0), 0, ""), np.zeros((8, 8, 3), np.uint8)
        model = Model("-", "-", "-", "0")
        structured_report(reference, secondary_capture(reference, blank, trial, model), trial, model)

    _built(take, name)
    return reference


def write_results(reference: Dataset, picture: np.ndarray, grade: Grade, model: Model, stem: Path) -> list[Path]:
    """Write STEM-sc.dcm and STEM-sr.dcm, both or neither.

    Args:
        reference: From `reference_of`.
        picture: uint8, H x W x 3, with its text.
        grade: Grade of this knee.
        model: The model that graded it.
        stem: Folder and start of the file names.

    Raises:
        InputError: One of the files exists.
        OSError: A file cannot be written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings about names without ^
        capture = secondary_capture(reference, picture, grade, model)
        report = structured_report(reference, capture, grade, model)
    made: list[Path] = []
    try:
        for kind, dataset in (("sc", capture), ("sr", report)):
            file = stem.with_name(f"{stem.name}-{kind}.dcm")
            with naming(file), file.open("xb") as opened:
                made.append(file)
                dataset.save_as(opened, enforce_file_format=True)
    except BaseException as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise InputError(
                f"{error.filename}: already exists, and dicom=true overwrites nothing; name another out=FOLDER"
            ) from None
        raise
    return made


def _built(build: Callable[[], None], name: str) -> None:
    """Call `build`, which copies a header, and report any failure in one line.

    Raises:
        DicomError: A field cannot be copied; the message names the reason and may quote the header.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build()
    except Exception as error:  # highdicom and pydicom raise many kinds of error, when a value is first read
        raise DicomError(
            f"{name}: its patient or study fields cannot be written into a result ({one_line(error)}); correct the "
            "header, or omit dicom=true", name
        ) from None  # fmt: skip
