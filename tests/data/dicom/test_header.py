import pytest

from koa_lightning.data.dicom.header import Header, read_header
from koa_lightning.errors import InputError


@pytest.fixture
def header(write_dicom, tmp_path):
    import numpy as np

    def read(burnt_in=False, **elements):
        file = write_dicom(tmp_path / "a.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20), **elements)
        return read_header(file.read_bytes(), "a.dcm", burnt_in)

    return read


@pytest.mark.parametrize(
    ("elements", "side"),
    [
        ({"ImageLaterality": "R"}, "R"),
        ({"Laterality": "L"}, "L"),
        ({"ImageLaterality": "R", "Laterality": "L", "SeriesDescription": "LEFT"}, "R"),
        ({"ImageLaterality": "", "Laterality": "L"}, "L"),
        ({"ImageLaterality": "U", "SeriesDescription": "Knee AP right"}, "R"),
        ({"ImageLaterality": "B", "SeriesDescription": "Knee AP right"}, ""),
        ({"SeriesDescription": "LEFT_KNEE_PA"}, "L"),
        ({"SeriesDescription": "KNEE L weight-bearing"}, "L"),
        ({"SeriesDescription": "R KNEE"}, "R"),
        ({"SeriesDescription": "L spine"}, ""),
        ({"SeriesDescription": "bright light, Leftwich"}, ""),
        ({"SeriesDescription": "LEFT and RIGHT"}, ""),
        ({"SeriesDescription": "LEFT and RIGHT", "ViewPosition": "RT"}, ""),
        ({"SeriesDescription": "KNEES R/L"}, ""),
        ({"SeriesDescription": "R/L KNEE AP"}, ""),
        ({"SeriesDescription": "R+L KNEES"}, ""),
        ({"SeriesDescription": "KNEE L+R STANDING"}, ""),
        ({"SeriesDescription": "KNEE R & L"}, ""),
        ({"SeriesDescription": "L AND R KNEES AP"}, ""),
        ({"SeriesDescription": "knees_bilat_LT marker"}, ""),
        ({"SeriesDescription": "BOTH KNEES, RT"}, ""),
        ({"SeriesDescription": "B/L KNEES"}, ""),
        ({"SeriesDescription": "Bilateral knees", "ViewPosition": "RT"}, ""),
        ({"SeriesDescription": "LEFT KNEE R/O FRACTURE"}, "L"),
        ({"SeriesDescription": "KNEE LEFT R/O FRACTURE"}, "L"),
        ({"SeriesDescription": "KNEE R/O FRACTURE"}, ""),
        ({"ViewPosition": "AP RT"}, "R"),
        ({}, ""),
    ],
)
def test_side(header, elements, side):
    found = header(**elements)
    assert found.side == side
    assert not side or found.side_from in elements


@pytest.mark.parametrize(
    ("elements", "spacing", "origin"),
    [
        ({"ImagerPixelSpacing": [0.1, 0.2], "PixelSpacing": [0.3, 0.3]}, (0.1, 0.2), "ImagerPixelSpacing"),
        ({"PixelSpacing": [0.3, 0.4]}, (0.3, 0.4), "PixelSpacing"),
        ({"ImagerPixelSpacing": [0, 0], "PixelSpacing": [0.3, 0.4]}, (0.3, 0.4), "PixelSpacing"),
        ({"ImagerPixelSpacing": None}, None, ""),
        ({"ImagerPixelSpacing": 0.1}, None, ""),
    ],
)
def test_spacing(header, elements, spacing, origin):
    found = header(**elements)
    assert (found.spacing, found.spacing_from) == (spacing, origin)


def test_patient(header):
    both = {"PatientID": " 0012 ", "StudyInstanceUID": "1.2.3"}
    assert (header(**both).patient, header(**both).patient_from) == ("0012", "PatientID")
    assert header(PatientID="", StudyInstanceUID="1.2.3").patient_from == "StudyInstanceUID"
    assert header().patient == ""


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("view", ["LL", "RL", "LAT", "LATERAL", "lat", "LEFT LATERAL"])
def test_lateral_views(header, view):
    with pytest.raises(InputError, match=r"a\.dcm: a lateral view"):
        header(ViewPosition=view)


@pytest.mark.parametrize("view", ["AP", "PA", "", "OBLIQUE", "BILATERAL"])
def test_other_views(header, view):
    assert header(ViewPosition=view).side == ""


def test_burnt_in_text(header):
    with pytest.raises(InputError, match="text is burnt into"):
        header(BurnedInAnnotation="YES")
    taken, without = header(burnt_in=True, BurnedInAnnotation="YES", PatientID="1"), header(BurnedInAnnotation="NO")
    assert (taken.patient, taken.burnt_in, without.burnt_in) == ("1", True, False)


def test_no_dicom_is_left_to_the_decoder():
    assert read_header(b"something", "a.dcm", False) == Header()


def test_an_element_of_another_kind(write_dicom, tmp_path):
    import numpy as np

    held = {"PatientID": "P1", "PixelSpacing": [0.1, 0.12345], "StudyInstanceUID": "1.2"}
    data = write_dicom(tmp_path / "b.dcm", np.zeros((9, 9), np.uint8), **held).read_bytes()
    spacing, patient = b"\x28\x00\x30\x00", b"\x10\x00\x20\x00"
    assert data.count(spacing + b"DS") == data.count(patient + b"LO") == 1
    found = read_header(data.replace(spacing + b"DS", spacing + b"FD"), "b.dcm", False)  # 12 bytes are no doubles
    assert (found.patient, found.spacing) == ("P1", None)
    assert found.notes == (r"PixelSpacing '0.1\0.12345'",)
    with pytest.raises(InputError, match=r"^b\.dcm: PatientID cannot be read"):
        read_header(data.replace(patient + b"LO", patient + b"FD"), "b.dcm", False)


@pytest.mark.parametrize("keyword", ["ImagerPixelSpacing", "PixelSpacing"])
@pytest.mark.parametrize(
    "text", [rb"0,143\0,143 ", rb"0.143\a.143 ", rb"0,143 ", rb"0.143 ", rb"0\0 ", rb"-1\-1 ", rb"mm"]
)
def test_a_spacing_that_cannot_be_read_is_empty_and_noted(write_dicom, tmp_path, keyword, text):
    import numpy as np

    held = {keyword: [0.1000, 0.12345], "PatientID": "P1", "ImageLaterality": "L"}
    data = write_dicom(tmp_path / "b.dcm", np.zeros((9, 9), np.uint8), **held).read_bytes()
    assert data.count(rb"0.1\0.12345 ") == 1
    data = data.replace(rb"0.1\0.12345 ", text.ljust(12))
    found = read_header(data, "b.dcm", False)
    assert (found.patient, found.side, found.spacing, found.spacing_from) == ("P1", "L", None, "")
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"{keyword} '")
    other = "PixelSpacing" if keyword.startswith("Imager") else "ImagerPixelSpacing"
    spaced = write_dicom(tmp_path / "b.dcm", np.zeros((9, 9), np.uint8), **held, **{other: [0.2, 0.3]}).read_bytes()
    found = read_header(spaced.replace(rb"0.1\0.12345 ", text.ljust(12)), "b.dcm", False)
    assert (found.spacing, found.spacing_from) == ((0.2, 0.3), other)
