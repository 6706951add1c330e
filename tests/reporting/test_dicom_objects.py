import shutil
import subprocess

import highdicom
import numpy as np
import pytest
from pydicom import dcmread

from koa_lightning.reporting.dicom_objects import SCHEME, STAMP, Grade, Model
from koa_lightning.reporting.dicom_results import reference_of, write_results

SHARES = (0.05, 0.1, 0.6, 0.2, 0.05)
GRADE = Grade(2, "mild", SHARES, 2.1, "L", ("set 1-2", "phantom data"))
MODEL = Model("run of a test", "test_vit", "0.2.0", "ab" * 32)
PATIENT = {
    "PatientID": "4711", "PatientName": "Møller^Åse", "PatientBirthDate": "19500203", "PatientSex": "F",
    "SpecificCharacterSet": "ISO_IR 100", "StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5",
    "StudyDate": "20240102", "StudyTime": "101112", "StudyID": "S1", "AccessionNumber": "A1", "Modality": "DX",
    "ReferringPhysicianName": "House^Gregory", "InstitutionName": "Planted Hospital", "PatientAddress": "Planted Road",
}  # fmt: skip
KEPT = ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyID", "AccessionNumber")


@pytest.fixture
def make(write_dicom, tmp_path):
    def make(grade=GRADE, **elements):
        film = write_dicom(tmp_path / "film.dcm", np.zeros((20, 30), np.uint16), **{**PATIENT, **elements})
        reference = reference_of(film.read_bytes(), str(film))
        picture = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
        files = write_results(reference, picture, grade, MODEL, tmp_path / "knee.a")
        return dcmread(film), picture, files, [dcmread(file) for file in files]

    return make


def test_patient_and_study_are_the_films_and_all_else_is_new(make):
    film, _, files, objects = make()
    assert [file.name for file in files] == ["knee.a-sc.dcm", "knee.a-sr.dcm"]
    for each in objects:
        assert all(each[keyword].value == film[keyword].value for keyword in KEPT)
        assert str(each.PatientName) == "Møller^Åse" and each.SpecificCharacterSet == "ISO_IR 192"
        assert each.ContentQualification == "RESEARCH" and STAMP in each.SeriesDescription
        assert each.Manufacturer == "koa-lightning" and each.ManufacturerModelName == MODEL.name
    uids = [each[keyword].value for each in (film, *objects) for keyword in ("SeriesInstanceUID", "SOPInstanceUID")]
    assert len(set(uids)) == 6
    for file in files:
        assert b"Planted" not in file.read_bytes()
    for file in files:
        file.unlink()
    again = make()[3]
    assert {each.SOPInstanceUID for each in again}.isdisjoint(uids)


def test_the_capture_holds_the_picture_and_names_its_source(make):
    film, picture, _, (capture, _) = make(PatientOrientation=["L", "F"], BurnedInAnnotation="YES")
    np.testing.assert_array_equal(capture.pixel_array, picture)
    assert capture.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7" and capture.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID
    assert (capture.Laterality, list(capture.PatientOrientation)) == ("L", ["L", "F"])
    assert capture.BurnedInAnnotation == "YES" and STAMP in capture.DerivationDescription


def test_what_is_not_known_is_not_made_up(make):
    _, _, files, (capture, report) = make(Grade(0, "none", (1, 0, 0, 0, 0), 0.0, ""), PatientBirthDate=None)
    assert not capture.PatientOrientation and not capture.Laterality and "BurnedInAnnotation" not in capture
    assert capture.PatientBirthDate == report.PatientBirthDate == ""
    [group] = highdicom.sr.srread(files[1]).content.get_image_measurement_groups()
    assert [site.laterality for site in group.finding_sites] == [None]


def test_the_report_says_grade_probabilities_and_model(make):
    film, _, files, (capture, _) = make()
    report = highdicom.sr.srread(files[1])
    [group] = report.content.get_image_measurement_groups()
    measured = {each.name.value: each.value for each in group.get_measurements()}
    assert [measured[f"KL-P{grade}"] for grade in range(5)] == pytest.approx(SHARES)
    assert measured["KL-E"] == pytest.approx(2.1)
    said = {each.name.value: each.value for each in group.get_qualitative_evaluations()}
    assert (said["KL"].value, said["KL"].scheme_designator) == ("KL-2", SCHEME) and "2 (mild)" in said["KL"].meaning
    assert (said["USE"].value, said["USE"].meaning) == ("RUO", f"{STAMP}, not a medical device")
    assert [(site.value.meaning, site.laterality.meaning) for site in group.finding_sites] == [("Knee joint", "Left")]
    text = report.to_json()
    for words in ("run of a test", "network test_vit", "ab" * 32, "set 1-2", "phantom data", "1500"):
        assert words in text
    assert film.SOPInstanceUID in text and capture.SOPInstanceUID in text  # the film is the source, both are evidence
    assert report.VerificationFlag == "UNVERIFIED" and report.PreliminaryFlag == "PRELIMINARY"
    assert report.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == SCHEME


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy is missing: apt-get install dicom3tools")
@pytest.mark.parametrize("side", ["L", "R", ""])
def test_dciodvfy_finds_no_error(make, side):
    empty = dict.fromkeys(("StudyID", "StudyTime", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"))
    for elements in ({}, empty, {"PatientName": None, "PatientID": None}):
        _, _, files, _ = make(Grade(2, "mild", SHARES, 2.1, side), **elements)
        for file in files:
            ended = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, check=False)
            said = ended.stdout + ended.stderr
            assert ended.returncode == 0 and "Error" not in said, said
            assert any(kind in said for kind in ("SCImage", "ComprehensiveSR"))
            file.unlink()
