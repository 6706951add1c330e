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


def test_damaged_header(header, write_dicom, tmp_path):
    import numpy as np

    data = write_dicom(tmp_path / "b.dcm", np.zeros((9, 9), np.uint8), ImagerPixelSpacing=[0.1, 0.1]).read_bytes()
    with pytest.raises(InputError, match=r"b\.dcm: damaged DICOM file"):
        read_header(data.replace(rb"0.1\0.1", rb"0.1\a.1"), "b.dcm", False)
