"""Pictures as they are written, against another reader of DICOM (GDCM) and pydicom's own tables."""

import struct

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder, pixel_array
from pydicom.uid import JPEG2000Lossless, RLELossless

from benchmarks.films import compose_film
from koa_lightning.data.dicom.header import Header
from koa_lightning.data.images import decode, read_image
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare.pixels import joints, resample, write_png
from koa_lightning.errors import InputError

WINDOWS = {
    "none": {},
    "window": {"WindowCenter": 90, "WindowWidth": 120},
    "sigmoid": {"WindowCenter": 90, "WindowWidth": 120, "VOILUTFunction": "SIGMOID"},
    "rescale": {"WindowCenter": 200, "WindowWidth": 300, "RescaleSlope": 2.5, "RescaleIntercept": -20},
}


def knee(bits=8, signed=False):
    """A phantom with so many bits."""
    image = draw_phantoms(["p"], ["R"], [3], seed=1, size=96)[0][:, :80]
    rng = np.random.default_rng(0)
    deep = (image.astype(int) << (bits - 8)) + rng.integers(0, 1 << (bits - 8), image.shape)
    deep.flat[:2] = 0, 2**bits - 1
    kind = np.uint8 if bits == 8 else np.uint16
    return (deep - 2 ** (bits - 1)).astype(np.int16) if signed else deep.astype(kind)


def read_by_gdcm(file):
    """The stored values, by a reader that shares no code with pydicom."""
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm, the other reader, is not installed")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    assert reader.Read()
    image = reader.GetImage()
    form = image.GetPixelFormat()
    kinds = {gdcm.PixelFormat.UINT8: "u1", gdcm.PixelFormat.UINT16: "<u2", gdcm.PixelFormat.INT16: "<i2"}
    kind = kinds.get(form.GetScalarType(), "<i2" if form.GetPixelRepresentation() else "<u2")
    values = np.frombuffer(image.GetBuffer().encode("utf-8", errors="surrogateescape"), kind)
    shape = image.GetDimension(1), image.GetDimension(0)
    return values.reshape(shape if form.GetSamplesPerPixel() == 1 else (*shape, 3))


def written(file, tmp_path):
    """The picture as it is written, read by another reader of PNG."""
    png = tmp_path / "knee.png"
    write_png(np.asarray(decode(file.read_bytes(), str(file), np.uint16)), png)
    image = cv2.imread(str(png), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    assert image.ndim == 2
    return image.astype(int)


def shown(file):
    """0..65535 from GDCM's values, by pydicom's tables."""
    ds = pydicom.dcmread(file)
    values = apply_modality_lut(read_by_gdcm(file), ds)
    low, high = values.min(), values.max()
    if "WindowCenter" in ds:
        values = apply_voi_lut(values, ds)
        low, high = -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0, 0
        high = low + 2**ds.BitsStored - 1
        if "RescaleSlope" in ds:  # pydicom's range is that of the rescaled values
            low, high = (end * ds.RescaleSlope + ds.RescaleIntercept for end in (low, high))
    share = (values - low) / (high - low)
    return 65535 * (1 - share if ds.PhotometricInterpretation == "MONOCHROME1" else share)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("bits", "signed"), [(8, False), (10, False), (12, False), (12, True), (14, False), (16, False)]
)
def test_gray_agrees_with_gdcm(bits, signed, photometric, window, write_dicom, tmp_path):
    scale = 1 << (bits - 8)
    elements = {key: value * scale if key.startswith("Window") else value for key, value in WINDOWS[window].items()} | {
        "PhotometricInterpretation": photometric
    }
    file = write_dicom(tmp_path / "a.dcm", knee(bits, signed), bits, **elements)
    image = written(file, tmp_path)
    assert np.abs(image - shown(file)).max() <= 1
    assert np.abs(image / 257 - read_image(file).astype(int)).max() <= 0.51  # the same in 8 bits
    assert len(np.unique(image)) > 100


@pytest.mark.parametrize("bits", [8, 12])
def test_colour_agrees_with_gdcm(bits, write_dicom, tmp_path):
    rgb = np.stack([knee(bits), knee(bits)[::-1], knee(bits)[:, ::-1]], axis=2)
    file = write_dicom(tmp_path / "a.dcm", rgb, bits)
    expected = read_by_gdcm(file) @ np.array([0.299, 0.587, 0.114]) * 65535 / (2**bits - 1)
    assert np.abs(written(file, tmp_path) - expected).max() <= 1


def test_ybr_and_palette(write_dicom, tmp_path):
    ybr = np.stack([knee(), np.full_like(knee(), 128), np.full_like(knee(), 128)], axis=2)
    file = write_dicom(tmp_path / "a.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    assert np.abs(written(file, tmp_path) - knee().astype(int) * 257).max() <= 257
    table = np.linspace(65535, 0, 256).astype("<u2")
    lut = {f"{colour}PaletteColorLookupTable{what}": value for colour in ("Red", "Green", "Blue")
           for what, value in (("Descriptor", [256, 0, 16]), ("Data", table.tobytes()))}  # fmt: skip
    file = write_dicom(tmp_path / "b.dcm", knee(), PhotometricInterpretation="PALETTE COLOR", **lut)
    assert np.abs(written(file, tmp_path) - table[knee()].astype(int)).max() <= 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_compressed_agrees_with_gdcm(bits, syntax, write_dicom, tmp_path):
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg", reason="pylibjpeg-openjpeg, which encodes JPEG 2000, is not installed")
    plain = write_dicom(tmp_path / "a.dcm", knee(bits), bits)
    packed = write_dicom(tmp_path / "b.dcm", knee(bits), bits, compress=syntax)
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(written(packed, tmp_path), written(plain, tmp_path))
    assert np.array_equal(read_by_gdcm(packed), knee(bits))


@pytest.mark.parametrize("name", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_that_gdcm_wrote_is_read_by_the_extra(bits, name, write_dicom, tmp_path):
    gdcm = pytest.importorskip("gdcm", reason="python-gdcm, which encodes JPEG lossless, is not installed")
    pytest.importorskip("libjpeg", reason="pylibjpeg-libjpeg, of the extra `dicom`, is not installed")
    plain, packed = write_dicom(tmp_path / "a.dcm", knee(bits), bits), tmp_path / "b.dcm"
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(plain))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    writer.SetFileName(str(packed))
    assert writer.Write()
    ds = pydicom.dcmread(packed)
    assert ds.file_meta.TransferSyntaxUID.is_compressed
    assert "pylibjpeg" in get_decoder(ds.file_meta.TransferSyntaxUID).available_plugins
    assert np.array_equal(pixel_array(ds, decoding_plugin="pylibjpeg"), knee(bits))
    assert np.array_equal(written(packed, tmp_path), written(plain, tmp_path))


def test_other_images(tmp_path):
    gray, deep = knee(), knee(16)
    for name, image, expected in (("a.png", gray, gray * 257.0), ("b.png", deep, deep), ("c.tif", deep, deep)):
        Image.fromarray(image).save(tmp_path / name)
        assert np.abs(written(tmp_path / name, tmp_path) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 5), (37, 61)])
def test_png_is_lossless_to_two_readers(shape, tmp_path):
    image = np.random.default_rng(3).integers(0, 65536, shape).astype(np.uint16)
    write_png(image[:, ::-1], tmp_path / "a.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED), image[:, ::-1])
    with Image.open(tmp_path / "a.png") as opened:
        opened.verify()  # the checksums too
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), image[:, ::-1])


def test_png_has_no_metadata(tmp_path):
    write_png(knee(12), tmp_path / "a.png")
    data, at, chunks = (tmp_path / "a.png").read_bytes(), 8, []
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        chunks.append(kind)
        at += 12 + length
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}


def test_resampling_keeps_millimetres():
    image = np.zeros((400, 300), np.uint16)
    image[100:300, 90:210] = 60000
    small = resample(image, (0.1, 0.2), 0.4, "x")
    assert small.shape == (100, 150)
    assert small.dtype == np.uint16
    assert small[30:70, 50:100].min() == 60000
    assert not small[:20].any()
    assert small.mean() == pytest.approx(image.mean(), rel=0.01)
    assert resample(image, (0.2, 0.2), 0.2, "x") is image


def test_what_cannot_be_resampled():
    image = np.zeros((400, 300), np.uint16)
    for spacing, wanted, words in ((None, 0.2, "no pixel spacing"), ((0.1, 0.1), 10, "a side is under 8")):
        with pytest.raises(InputError, match=f"x: .*{words}"):
            resample(image, spacing, wanted, "x")
    with pytest.raises(InputError, match="are more than"):
        resample(image, (9.0, 9.0), 0.01, "x")


@pytest.mark.parametrize(
    ("header", "split"), [(Header(side="L"), "never"), (Header(side="L"), "auto"), (Header(), "auto")]
)
def test_films_of_one_knee_stay_whole(header, split):
    [(side, image)] = joints(knee(), header, split, "none")
    assert side == header.side
    assert np.array_equal(image, knee())


def both_knees():
    rng = np.random.default_rng(1)
    pair = draw_phantoms(["P1", "P1"], ["R", "L"], [1, 2], seed=3, size=160)
    return compose_film(*pair, rng)[0].astype(np.uint16)


def test_films_of_both_knees_are_split_unless_the_header_tells_a_side():
    film = both_knees()
    assert [side for side, _ in joints(film, Header(), "auto", "none")] == ["R", "L"]
    assert [side for side, _ in joints(film, Header(orientation="A\\F"), "auto", "none")] == ["", ""]
    [(side, whole)] = joints(film, Header(side="R"), "auto", "none")
    assert (side, whole.shape) == ("R", film.shape)
    assert len(joints(film, Header(side="R"), "always", "none")) == 2


def test_a_film_of_one_knee_can_be_cropped_to_a_square():
    wide = np.pad(knee(), ((0, 0), (40, 90)))
    [(side, crop)] = joints(wide, Header(side="L"), "auto", "joint")
    assert side == "L"
    assert crop.shape[0] == crop.shape[1] <= min(wide.shape)
