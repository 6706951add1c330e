"""A grade as DICOM objects: a Secondary Capture with the overlay, and a Structured Report (TID 1500).

Both say `RESEARCH USE ONLY` in words and in code (Content Qualification RESEARCH). Patient and study are those of the
graded file; everything else is new. Research use only, not a medical device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from koa_lightning import DISCLAIMER, __version__

if TYPE_CHECKING:
    import highdicom

SCHEME = "99KOA"
STAMP = "RESEARCH USE ONLY"
_SIDES = {"L": codes.SCT.Left, "R": codes.SCT.Right}


@dataclass(frozen=True)
class Model:
    """The model that graded.

    Attributes:
        name: Name of its run.
        network: Name of the network in timm.
        version: Version of the package that trained it.
        sha256: Hash of the checkpoint file.
    """

    name: str
    network: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Grade:
    """The grade of one knee.

    Attributes:
        grade: Predicted grade, 0 to 4.
        name: Name of the grade.
        probabilities: Probabilities of grades 0 to 4.
        expected: Expected grade, in [0, 4].
        side: L, R, or empty if unknown.
        statements: Further statements: prediction set, referral, caveats.
    """

    grade: int
    name: str
    probabilities: Sequence[float]
    expected: float
    side: str
    statements: Sequence[str] = ()


def secondary_capture(reference: Dataset, picture: np.ndarray, grade: Grade, model: Model) -> highdicom.sc.SCImage:
    """Return the picture as a Secondary Capture of the same study, with UIDs of its own.

    Args:
        reference: From `koa_lightning.reporting.dicom_results.reference_of`.
        picture: uint8, H x W x 3, with its text.
        grade: Grade of this knee.
        model: The model that graded it.
    """
    import highdicom

    capture = highdicom.sc.SCImage.from_ref_dataset(
        reference, picture, "RGB", 8, "PATIENT", generate_uid(None), 901, generate_uid(None), 1, **_made_by(model),
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian, series_description=f"{STAMP}: heat map",
    )  # fmt: skip
    # knees are paired, so the element is required, but it may be empty
    capture.add_new("Laterality", "CS", grade.side or None)
    capture["PatientOrientation"].value = (
        reference.get("PatientOrientation") or None
    )  # the film's own; empty if it has none
    capture.ConversionType = "WSD"  # made on a workstation, not digitised
    capture.BodyPartExamined = "KNEE"
    capture.DerivationDescription = f"{STAMP}: heat map of a Kellgren-Lawrence grade over the radiograph; {DISCLAIMER}"
    if "BurnedInAnnotation" in reference:  # text burned into the film is in the picture too
        capture.BurnedInAnnotation = reference.BurnedInAnnotation
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = reference.SOPClassUID, reference.SOPInstanceUID
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    source.PurposeOfReferenceCodeSequence = [highdicom.sr.CodedConcept.from_code(purpose)]
    capture.SourceImageSequence = [source]
    return capture


def structured_report(reference: Dataset, capture: Dataset, grade: Grade, model: Model) -> highdicom.sr.ComprehensiveSR:
    """Return a Measurement Report (TID 1500): grade, probabilities and expected grade of the knee, and the model.

    Grades and probabilities have our own codes (`99KOA`, declared in the object).

    Args:
        reference: From `koa_lightning.reporting.dicom_results.reference_of`.
        capture: From `secondary_capture`, listed as evidence.
        grade: Grade of this knee.
        model: The model that graded it.
    """
    from highdicom import sr

    unit, probability = codes.UCUM.NoUnits, "Probability of Kellgren-Lawrence grade"
    measurements = [
        sr.Measurement(_own(f"KL-P{each}", f"{probability} {each}"), round(float(p), 6), unit)
        for each, p in enumerate(grade.probabilities)
    ]
    measurements.append(
        sr.Measurement(_own("KL-E", "Expected Kellgren-Lawrence grade"), round(float(grade.expected), 4), unit)
    )
    side = _SIDES.get(grade.side)
    found = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(generate_uid(None), f"knee {grade.side}".strip()),
        finding_type=_own("KL", "Kellgren-Lawrence grade of knee osteoarthritis"),
        algorithm_id=sr.AlgorithmIdentification(
            f"koa-lightning {model.name}".strip(), model.version or __version__, parameters=[
                f"network {model.network}", f"checkpoint sha256 {model.sha256}",
                f"graded by koa-lightning {__version__}", *grade.statements,
            ],
        ),
        finding_sites=[sr.FindingSite(codes.SCT.KneeJoint, laterality=side)],
        measurements=measurements,
        qualitative_evaluations=[
            sr.QualitativeEvaluation(
                _own("KL", "Kellgren-Lawrence grade of knee osteoarthritis"),
                _own(f"KL-{grade.grade}", f"Kellgren-Lawrence grade {grade.grade} ({grade.name})"),
            ),
            sr.QualitativeEvaluation(_own("USE", "Intended use"), _own("RUO", f"{STAMP}, not a medical device")),
        ],
        source_images=[sr.SourceImageForMeasurementGroup(reference.SOPClassUID, reference.SOPInstanceUID)],
    )  # fmt: skip
    device = sr.DeviceObserverIdentifyingAttributes(
        generate_uid(entropy_srcs=["koa-lightning", model.sha256]), "koa-lightning", "koa-lightning",
        model.name or None, model.sha256[:16] or None,
    )  # fmt: skip
    content = sr.MeasurementReport(
        sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.cid100.XRUnspecifiedBodyRegion,
        imaging_measurements=[found],
    )
    return sr.ComprehensiveSR(
        [reference, capture], content[0], generate_uid(None), 902, generate_uid(None), 1, **_made_by(model),
        is_complete=True, is_final=False, is_verified=False, series_description=f"{STAMP}: Kellgren-Lawrence grade",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )  # fmt: skip


def _made_by(model: Model) -> dict[str, Any]:
    import highdicom

    item = highdicom.coding_schemes.CodingSchemeIdentificationItem
    return {
        "manufacturer": "koa-lightning",
        "manufacturer_model_name": (model.name or "koa-lightning")[:64],
        "software_versions": __version__,
        "device_serial_number": model.sha256[:16],
        "content_qualification": "RESEARCH",
        "coding_schemes": [item(SCHEME, "koa-lightning", responsible_organization="koa-lightning")],
        "specific_character_set": "ISO_IR 192",
    }


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning[:64])
