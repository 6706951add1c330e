import numpy as np
import pytest

from koa_lightning.data.one_knee import DicomError
from koa_lightning.errors import InputError
from koa_lightning.reporting import dicom_results
from koa_lightning.reporting.dicom_objects import Grade, Model
from koa_lightning.reporting.dicom_results import check_installed, model_of, reference_of, write_results

UIDS = {"StudyInstanceUID": "1.2.3.4", "SeriesInstanceUID": "1.2.3.4.5", "PatientID": "4711", "PatientName": "A^B"}
GRADE, MODEL = Grade(1, "doubtful", (0.2,) * 5, 2.0, "R"), Model("run", "test_vit", "0.2.0", "ab" * 32)
PICTURE = np.zeros((9, 9, 3), np.uint8)


@pytest.fixture
def film(write_dicom, tmp_path):
    def make(**elements):
        return write_dicom(tmp_path / "film.dcm", np.zeros((20, 30), np.uint16), **{**UIDS, **elements})

    return make


def test_only_what_results_take_over_is_kept(film):
    reference = reference_of(film(InstitutionName="Planted", WindowCenter=3).read_bytes(), "film.dcm")
    assert (reference.PatientID, str(reference.PatientName), reference.PatientSex) == ("4711", "A^B", "")
    assert not {"InstitutionName", "WindowCenter", "PixelData", "Rows"} & set(reference.dir())


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"StudyInstanceUID": None}, "its header has no StudyInstanceUID, so no result can refer to it"),
        ({"SeriesInstanceUID": "", "SOPInstanceUID": None}, "has no SeriesInstanceUID, SOPInstanceUID, so"),
        ({"PatientSex": "WHAT"}, "patient or study fields cannot be written into a result"),
    ],
)
def test_a_header_to_which_nothing_can_refer(film, elements, words):
    with pytest.raises(DicomError) as error:
        reference_of(film(**elements).read_bytes(), "film.dcm")
    assert str(error.value).startswith("film.dcm: ") and words in str(error.value) and "\n" not in str(error.value)
    assert "dicom=true" in str(error.value)


def test_what_is_no_dicom_file():
    with pytest.raises(InputError, match=r"^a\.png: not a DICOM file, so dicom=true has no patient and no") as error:
        reference_of(b"\x89PNG....", "a.png")
    assert "\n" not in str(error.value)
    with pytest.raises(DicomError, match=r"^a\.dcm: damaged DICOM file"):
        reference_of(b"text", "a.dcm")


def test_nothing_is_replaced_and_nothing_half_is_left(film, tmp_path):
    reference = reference_of(film().read_bytes(), "film.dcm")
    (tmp_path / "knee-sr.dcm").write_text("another")
    with pytest.raises(InputError, match=r"knee-sr\.dcm: already exists, and dicom=true overwrites nothing; .* out="):
        write_results(reference, PICTURE, GRADE, MODEL, tmp_path / "knee")
    assert (tmp_path / "knee-sr.dcm").read_text() == "another"
    assert not (tmp_path / "knee-sc.dcm").exists()
    with pytest.raises(OSError, match="none"):
        write_results(reference, PICTURE, GRADE, MODEL, tmp_path / "none" / "knee")


def test_a_model_is_known_by_its_checksum(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"abc")
    model = model_of(tmp_path / "a.ckpt", "run", "net", "0.2.0")
    assert model.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    check_installed()
    monkeypatch.setattr(dicom_results, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'^dicom=true: needs the package highdicom; type pip install "koa-lightning'):
        check_installed()
