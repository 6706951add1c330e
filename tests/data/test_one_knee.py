import numpy as np
import pytest
from PIL import Image

from koa_lightning.data.images import decode
from koa_lightning.data.one_knee import DicomError, Reader
from koa_lightning.data.patterns import NamePattern
from koa_lightning.data.prepare import names
from koa_lightning.errors import InputError

ONE, TWO = (80, 91), (80, 92)  # rows and columns: from 1.15 times the height on, a picture may be of both knees


@pytest.fixture
def reader(tmp_path, monkeypatch):
    monkeypatch.delenv("KOA_KEY", raising=False)
    monkeypatch.setattr(names, "user_config_dir", lambda name: str(tmp_path / "config" / name))

    def make(pattern=None, side="", films="auto"):
        return Reader(pattern, side, films, None, tmp_path / "out")

    return make


@pytest.fixture
def picture(tmp_path):
    def write(name="knee.png", shape=(80, 80)):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)).save(tmp_path / name)
        return tmp_path / name

    return write


def film(shape=(80, 80)):
    return np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)


@pytest.mark.parametrize(
    ("name", "pattern", "side", "expected"),
    [
        ("knee.png", None, "", ("", "")),
        ("0123456789abcdef-L-1.png", None, "", ("0123456789abcdef", "L")),
        ("0123456789abcdef-U-12.png", None, "", ("0123456789abcdef", "")),  # unknown to `prepare` too
        ("0123456789abcdef-L-1.png", None, "R", ("0123456789abcdef", "R")),  # a typed side is that of all
        ("9000001L.png", NamePattern(r"(?P<patient>\d+)(?P<side>[LR])"), "", ("9000001", "L")),
        ("other.png", NamePattern(r"(?P<patient>\d+)(?P<side>[LR])"), "", ("", "")),
    ],
)
def test_patient_and_side_by_the_name(name, pattern, side, expected, reader, picture):
    path = picture(name)
    read = reader(pattern, side).read(path)
    assert (read.patient, read.side) == expected
    assert np.array_equal(read.image, decode(path.read_bytes(), name))


def test_a_header_comes_before_the_name_and_what_differs_is_counted(reader, write_dicom, tmp_path):
    path = write_dicom(
        tmp_path / "0123456789abcdef-L-1.png", film(), 12, PatientID="Miller", ImageLaterality="R",
        BurnedInAnnotation="YES",
    )  # fmt: skip
    used = reader()
    read = used.read(path)
    assert read.side == "R"
    assert read.patient not in ("Miller", "0123456789abcdef")
    assert used.read(path).patient == read.patient  # the same key
    assert [line.split()[0] for line in used.warnings()] == ["2", "2"]
    assert "the header was used" in " ".join(used.warnings())
    assert reader(side="L").read(path).side == "L"


@pytest.mark.parametrize(("shape", "asked"), [(ONE, False), (TWO, True)])
def test_from_which_width_on_a_picture_may_show_both_knees(shape, asked, reader, picture, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "koa_lightning.data.prepare.films.split_film", lambda image, **how: seen.append(image.shape) or [image]
    )
    reader().read(picture(shape=shape))
    assert seen == ([shape] if asked else [])


def test_a_film_of_both_knees_is_refused_unless_told_otherwise(reader, picture, write_dicom, tmp_path, monkeypatch):
    monkeypatch.setattr("koa_lightning.data.prepare.films.split_film", lambda image, **how: [image, image])
    path = picture(shape=(80, 170))
    with pytest.raises(InputError, match="shows both knees") as caught:
        reader().read(path)
    assert not isinstance(caught.value, DicomError)
    assert reader(films="never").read(path).image.shape == (80, 170)
    sided = write_dicom(tmp_path / "sided.dcm", film((80, 170)), 12, ImageLaterality="R")
    assert reader().read(sided).image.shape == (80, 170)  # a side in the header means one knee


def test_the_reason_for_files_quotes_no_header(reader, write_dicom, tmp_path):
    path = write_dicom(tmp_path / "a.dcm", film(), 12, ViewPosition="LL", PatientID="Miller")
    with pytest.raises(DicomError) as caught:
        reader().read(path)
    assert caught.value.reason.startswith(f"{path}: ")
    assert "Miller" not in caught.value.reason
