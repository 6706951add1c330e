import logging
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from koa_lightning.data.dicom import pixels as dicom
from koa_lightning.data.dicom.header import read_header
from koa_lightning.data.dicom.pixels import read_dicom
from koa_lightning.data.images import decode, read_image
from koa_lightning.errors import InputError


def pixels(low=0, high=4096, shape=(20, 30), dtype=np.uint16):
    """Random values that include both ends of [low, high)."""
    values = np.random.default_rng(0).integers(low, high, shape)
    values.flat[:2] = low, high - 1
    return values.astype(dtype)


def dataset(array, bits=12, syntax=ExplicitVRLittleEndian, **elements):
    """A small radiograph; an element given as None is omitted."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.Rows, ds.Columns = array.shape[:2]
    ds.SamplesPerPixel = array.shape[2] if array.ndim == 3 else 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8 * array.itemsize, bits, bits - 1
    ds.PixelRepresentation = int(array.dtype.kind == "i")
    if ds.SamplesPerPixel > 1:
        ds.PlanarConfiguration = 0
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds.PixelData = array.astype(array.dtype.newbyteorder(order)).tobytes()
    ds["PixelData"].VR = "OB" if array.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def saved(ds):
    stream = BytesIO()
    ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def lut(first, entries, bits=16, as_bytes=True):
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 2**16, first, bits]
    item["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    item.LUTData = np.asarray(entries, "<u2").tobytes() if as_bytes else [int(entry) for entry in entries]
    item["LUTData"].VR = "OW" if as_bytes else "US"
    return item


def read(ds):
    image = read_dicom(saved(ds), "knee.dcm")
    assert image.dtype == np.uint8
    assert image.shape == (ds.Rows, ds.Columns)
    return image


def scaled(values, low=None, high=None):
    """[low, high] to 0..255, by another way than the code under test."""
    ends = [values.min() if low is None else low, values.max() if high is None else high]
    return np.round(np.interp(values, ends, [0, 255])).astype(np.uint8)


def refuses(data, *words):
    with pytest.raises(InputError) as caught:
        read_dicom(data, "knee.dcm")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("knee.dcm: ")
    for word in words:
        assert word in message


def test_more_pixels_than_the_header_tells_of_are_refused():
    tiny = dataset(np.zeros((16, 16), np.uint8), 8, PixelData=bytes(16 * 16 * 1000))
    refuses(saved(tiny), "pixels of 1000 frames, more than its header says")
    read(dataset(np.arange(256, dtype=np.uint8).reshape(16, 16), 8, PixelData=bytes(range(256)) + b"\0\0"))


def test_a_deflated_file_that_inflates_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(dicom, "_INFLATED", 100_000)
    monkeypatch.setattr(dicom.pydicom, "dcmread", lambda *_: pytest.fail("it was inflated"))
    bomb = dataset(np.zeros((16, 16), np.uint8), 8, DeflatedExplicitVRLittleEndian, PixelData=bytes(200_000))
    refuses(saved(bomb), "inflates to more than 0 MB")
    with pytest.raises(InputError, match=r"knee\.dcm: inflates to more than 0 MB"):
        read_header(saved(bomb), "knee.dcm", burnt_in=False)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "bits"),
    [
        (0, 256, np.uint8, 8),
        (-128, 128, np.int8, 8),
        (300, 1024, np.uint16, 10),
        (5, 4000, np.uint16, 12),
        (-2000, 2000, np.int16, 12),
        (0, 65536, np.uint16, 16),
        (-32768, 32768, np.int16, 16),
    ],
)
def test_without_voi_lowest_to_highest(low, high, dtype, bits):
    array = pixels(low, high, dtype=dtype)
    image = read(dataset(array, bits))
    assert (image.min(), image.max()) == (0, 255)
    assert np.array_equal(image, scaled(array))


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_uncompressed_transfer_syntaxes(syntax):
    assert np.array_equal(read(dataset(pixels(), syntax=syntax)), scaled(pixels()))


def test_compressed_transfer_syntaxes():
    ds = dataset(pixels())
    ds.compress(RLELossless)
    assert np.array_equal(read(ds), scaled(pixels()))
    ramp = np.tile(np.arange(0, 240, 4, dtype=np.uint8), (32, 1))
    stream = BytesIO()
    Image.fromarray(ramp).save(stream, "JPEG", quality=95)
    ds = dataset(ramp, 8, JPEGBaseline8Bit, PixelData=encapsulate([stream.getvalue()]))
    assert np.abs(read(ds) - scaled(ramp).astype(int)).max() <= 4


def test_unused_high_bits_do_not_count():
    array = pixels()
    assert np.array_equal(read(dataset(array | 0x8000)), scaled(array))


def test_constant_image_is_black():
    assert not read(dataset(np.full((9, 9), 70, np.uint16))).any()


def test_monochrome1_is_inverted_last():
    elements = {"WindowCenter": 1000, "WindowWidth": 800}
    bright = read(dataset(pixels(), **elements))
    assert np.array_equal(read(dataset(pixels(), PhotometricInterpretation="MONOCHROME1", **elements)), 255 - bright)


def bordered(border, dtype=np.uint16, low=1000, high=3001):
    """Pixels with padding on their left, and which of them are no padding."""
    array = pixels(low, high, dtype=dtype)
    inside = np.broadcast_to(np.arange(array.shape[1]) >= 4, array.shape)
    array[:, 4:6] = low, high - 1
    return np.where(inside, array, np.asarray(border).astype(dtype)), inside


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("border", "dtype", "elements"),
    [
        (65535, np.uint16, {"PixelPaddingValue": 65535}),
        (0, np.uint16, {"PixelPaddingValue": 0, "RescaleSlope": 2, "RescaleIntercept": -1500}),  # stored values count
        (60003, np.uint16, {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 60010}),
        (60003, np.uint16, {"PixelPaddingValue": 60010, "PixelPaddingRangeLimit": 60000}),
        (-2000, np.int16, {"PixelPaddingValue": -2000}),
    ],
)
def test_padding_is_black_and_no_value(border, dtype, elements, photometric, syntax):
    array, inside = bordered(border, dtype)
    image = read(dataset(array, 16, syntax, PhotometricInterpretation=photometric, **elements))
    assert not image[~inside].any()
    expected = scaled(array[inside])
    if photometric == "MONOCHROME1":
        assert np.array_equal(image[inside], 255 - expected)
    else:
        assert np.array_equal(image[inside], expected)


def test_padding_of_signed_pixels_told_as_unsigned():
    array, inside = bordered(-2000, np.int16, -1000, 1001)
    ds = dataset(array, 16)
    ds.add_new("PixelPaddingValue", "US", 63536)
    image = read(ds)
    assert not image[~inside].any()
    assert np.array_equal(image[inside], scaled(array[inside]))


def test_padding_is_black_with_a_window_too():
    array, inside = bordered(65535)
    elements = {"WindowCenter": 2000, "WindowWidth": 1500}
    image = read(dataset(array, 16, PixelPaddingValue=65535, **elements))
    assert np.array_equal(image, np.where(inside, read(dataset(array, 16, **elements)), 0))


def test_padding_that_would_leave_nothing_is_not_believed():
    image = read(dataset(pixels(), PixelPaddingValue=0, PixelPaddingRangeLimit=4095))
    assert np.array_equal(image, scaled(pixels()))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID", "", None])
@pytest.mark.parametrize(("centre", "width"), [(2000, 1500), (100, 4000), (2048, 1.0), (1500.5, 2.5)])
def test_window_agrees_with_pydicom(function, centre, width):
    ds = dataset(pixels(), WindowCenter=centre, WindowWidth=width)
    if function is not None:
        ds.VOILUTFunction = function
    with np.errstate(over="ignore"):
        expected = apply_voi_lut(pixels(), dataset(pixels(), **window_of(ds, function)))
    assert np.abs(read(ds) - expected / 4095 * 255).max() <= 0.51


def window_of(ds, function):
    given = {"WindowCenter": ds.WindowCenter, "WindowWidth": ds.WindowWidth}
    return given | ({"VOILUTFunction": function} if function else {})


def test_window_by_hand():
    array = np.tile(np.array([0, 99, 100, 150, 200, 201, 4095], np.uint16), (8, 2))
    ds = dataset(array, WindowCenter=150, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")
    assert read(ds)[0, :7].tolist() == [0, 0, 0, 128, 255, 255, 255]


def test_narrow_contrast_stays_narrow_in_its_window():
    array = pixels(1900, 2100)
    image = read(dataset(array, WindowCenter=2000, WindowWidth=4000))
    assert np.abs(image.astype(int) - 127).max() <= 8


def test_first_of_several_windows():
    several = read(dataset(pixels(), WindowCenter=[1000, 3000], WindowWidth=[500, 90]))
    assert np.array_equal(several, read(dataset(pixels(), WindowCenter=1000, WindowWidth=500)))
    assert not np.array_equal(several, read(dataset(pixels(), WindowCenter=3000, WindowWidth=90)))


def test_window_without_width_is_none():
    assert np.array_equal(read(dataset(pixels(), WindowCenter=9, WindowWidth="")), scaled(pixels()))


def test_window_is_in_units_after_the_rescale():
    elements = {"WindowCenter": 500, "WindowWidth": 1000, "RescaleSlope": 2, "RescaleIntercept": -1000}
    ds = dataset(pixels(), **elements)
    values = pixels() * 2.0 - 1000
    assert np.abs(read(ds).astype(int) - scaled(values, 0, 999)).max() <= 1


def test_negative_slope_turns_the_gray_values():
    assert np.array_equal(read(dataset(pixels(), RescaleSlope=-1, RescaleIntercept=7)), scaled(-pixels(dtype=int)))


@pytest.mark.parametrize("as_bytes", [True, False])
@pytest.mark.parametrize("first", [0, 100])
def test_voi_lut_agrees_with_pydicom(first, as_bytes):
    entries = (np.linspace(0, 1, 3000) ** 2 * 1023).astype(int)
    ds = dataset(pixels(), VOILUTSequence=[lut(first, entries, 10, as_bytes), lut(0, [0, 1])])
    ds.WindowCenter, ds.WindowWidth = 5, 5  # the LUT comes first
    expected = apply_voi_lut(pixels(), ds)
    assert expected.max() > 900
    assert np.abs(read(ds) - expected / 1023 * 255).max() <= 0.51


def test_voi_lut_of_negative_values_after_a_rescale():
    entries = np.arange(200) * 5
    ds = dataset(pixels(0, 200), RescaleSlope=1, RescaleIntercept=-150, VOILUTSequence=[lut(-100, entries, 10)])
    expected = entries[(pixels(0, 200).astype(int) - 150 + 100).clip(0, 199)]
    assert np.abs(read(ds) - expected / 1023 * 255).max() <= 0.51


def test_voi_lut_of_65536_entries():
    entries = np.arange(65536)[::-1]
    ds = dataset(pixels(0, 65536), 16, VOILUTSequence=[lut(0, entries)])
    assert np.array_equal(read(ds), scaled(65535 - pixels(0, 65536), 0, 65535))


def test_modality_lut_comes_before_the_window():
    entries = (np.sqrt(np.linspace(0, 1, 4096)) * 65535).astype(int)
    item = lut(0, entries)
    item.ModalityLUTType = "US"
    ds = dataset(pixels(), ModalityLUTSequence=[item], WindowCenter=30000, WindowWidth=20000)
    assert np.array_equal(apply_modality_lut(pixels(), ds), entries[pixels()])
    low, high = 30000 - 0.5 - 9999.5, 30000 - 0.5 + 9999.5
    assert np.abs(read(ds).astype(int) - scaled(entries[pixels()], low, high)).max() <= 1


def test_modality_lut_without_voi_uses_the_values_that_occur():
    entries = np.full(4096, 60000)
    entries[[10, 4000]] = 100, 300  # the values between never occur
    array = np.tile(np.array([10, 4000], np.uint16), (8, 4))
    assert np.array_equal(np.unique(read(dataset(array, ModalityLUTSequence=[lut(0, entries)]))), [0, 255])
    assert read(dataset(array, ModalityLUTSequence=[lut(0, entries)]))[0, :2].tolist() == [0, 255]


def colours():
    return np.random.default_rng(1).integers(0, 256, (16, 24, 3), dtype=np.uint8)


LUMA = np.array([0.299, 0.587, 0.114])


def test_rgb():
    image = read(dataset(colours(), 8, PhotometricInterpretation="RGB"))
    assert np.abs(image - colours() @ LUMA).max() <= 1


def test_rgb_of_16_bits():
    deep = colours().astype(np.uint16) * 16
    image = read(dataset(deep, 12, PhotometricInterpretation="RGB"))
    assert np.abs(image - deep / 4095 * 255 @ LUMA).max() <= 1


def test_ybr_full_gives_its_luma():
    ybr = colours() // 4 + 96  # colours that RGB can show
    image = read(dataset(ybr, 8, PhotometricInterpretation="YBR_FULL"))
    assert np.abs(image - ybr[..., 0].astype(int)).max() <= 2


def test_palette_colour():
    indices = pixels(0, 256, dtype=np.uint8)
    ds = dataset(indices, 8, PhotometricInterpretation="PALETTE COLOR")
    table = np.random.default_rng(2).integers(0, 65536, (3, 256)).astype("<u2")
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    expected = (LUMA @ table / 257)[indices]
    assert np.abs(read(ds) - expected).max() <= 1


def test_read_image_knows_dicom_by_content_and_by_ending(tmp_path):
    for name in ("IM0001", "1.2.840.77", "knee.png", "knee.DCM"):
        path = tmp_path / name
        path.write_bytes(saved(dataset(pixels())))
        assert np.array_equal(read_image(path), scaled(pixels()))
    with pytest.raises(InputError, match="not a DICOM file"):
        decode(b"something else", "knee.dicom")


@pytest.mark.parametrize("keyword", ["PixelData", "Rows", "BitsStored", "PhotometricInterpretation"])
def test_missing_elements(keyword):
    refuses(saved(dataset(pixels(), **{keyword: None})), "without", keyword)


def test_several_frames():
    ds = dataset(pixels())
    ds.NumberOfFrames, ds.PixelData = 2, ds.PixelData * 2
    refuses(saved(ds), "2 frames")
    assert read(dataset(pixels(), NumberOfFrames=1)).any()


@pytest.mark.parametrize(("syntax", "name"), [(JPEGLosslessSV1, "JPEG Lossless"), (MPEG2MPML, "MPEG2")])
def test_compression_without_decoder(syntax, name, monkeypatch):
    # the decoder of JPEG Lossless is an optional package, which may be installed here
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", property(lambda self: False))
    ds = dataset(pixels(), syntax=syntax, PixelData=encapsulate([bytes(64)]))
    refuses(saved(ds), "compressed as", name, "no installed decoder", 'pip install "koa-lightning[dicom]"')


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # pytest replaces the filter of the module
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("rle", [False, True])
def test_truncated(share, rle):
    ds = dataset(pixels(shape=(64, 64)))
    if rle:
        ds.compress(RLELossless)
    data = saved(ds)
    refuses(data[: int(len(data) * share)])


def test_pixel_data_shorter_than_rows_and_columns():
    refuses(saved(dataset(pixels(), Rows=400)), "truncated or damaged pixel data")


def test_damaged_compressed_pixels():
    ds = dataset(pixels(dtype=np.uint8, high=256), 8, JPEGBaseline8Bit, PixelData=encapsulate([bytes(64)]))
    refuses(saved(ds), "truncated or damaged pixel data")


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"BitsStored": 4}, "4 bits stored"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits stored"),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation HSV"),
        ({"Rows": 20_000, "Columns": 20_000}, "20000 x 20000 pixels"),
        ({"Rows": 7}, "under 8"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window width 0"),
        ({"WindowCenter": 5, "WindowWidth": 5, "VOILUTFunction": "CUBIC"}, "VOI LUT function CUBIC"),
        ({"VOILUTSequence": [Dataset()]}, "tables cannot be applied"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "tables cannot be applied"),
    ],
)
def test_headers_that_cannot_be_shown(elements, words):
    refuses(saved(dataset(pixels(), **elements)), words)


@pytest.mark.parametrize(
    ("bits", "high", "allocated"), [(12, 15, 16), (12, 13, 16), (10, 15, 16), (8, 15, 16), (12, 7, 16)]
)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_pixels_that_lie_in_other_bits_are_refused(bits, high, allocated, photometric):
    shifted = pixels(high=2**bits) << max(0, high + 1 - bits)
    ds = dataset(shifted, bits, HighBit=high, PhotometricInterpretation=photometric)
    refuses(saved(ds), f"HighBit {high} does not fit {bits} bits stored of {allocated}")


def test_more_bits_stored_than_allocated_are_refused():
    refuses(saved(dataset(pixels(high=256, dtype=np.uint8), 12)), "does not fit 12 bits stored of 8")


@pytest.mark.parametrize(
    "keyword", ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "NumberOfFrames"]
)
@pytest.mark.parametrize("text", [b"7,25", b"much"])
def test_a_number_that_changes_the_picture_and_cannot_be_read_is_named(keyword, text):
    ds = dataset(pixels(), RescaleSlope=1, RescaleIntercept=0, WindowCenter=999, WindowWidth=999, NumberOfFrames=1)
    setattr(ds, keyword, "8765")
    data = saved(ds)
    assert data.count(b"8765") == 1
    refuses(data.replace(b"8765", text), f"{keyword} is not a number")


@pytest.mark.parametrize("text", [rb"0,143\0,143 ", rb"0.143\x.143 "])
def test_an_optional_value_that_cannot_be_read_changes_no_pixel(text):
    ds = dataset(pixels(), PixelSpacing=[0.1, 0.12345])
    data = saved(ds)
    assert data.count(rb"0.1\0.12345 ") == 1
    changed = data.replace(rb"0.1\0.12345 ", text.ljust(12))
    assert (read_dicom(changed, "knee.dcm") == read_dicom(data, "knee.dcm")).all()


@pytest.mark.slow
def test_oddities_are_not_printed(tmp_path):
    """In a process of its own, as pytest replaces filters of warnings and handlers of logs."""
    ds = dataset(pixels(), PixelData=pixels().tobytes() + bytes(100))
    path = tmp_path / "knee.dcm"
    path.write_bytes(saved(ds))
    start = "import logging, sys; logging.basicConfig(); "
    ours = "from koa_lightning.data.images import read_image; read_image(sys.argv[1])"
    plain = "import pydicom; pydicom.dcmread(sys.argv[1]).pixel_array"
    said = [
        subprocess.run(
            [sys.executable, "-c", start + line, path],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(sys.modules["koa_lightning"].__file__).parents[1],
        ).stderr
        for line in (ours, plain)
    ]
    assert said[0] == ""
    assert "WARNING:pydicom" in said[1]
    assert "UserWarning" in said[1]


def test_pydicom_still_reports_errors():
    assert logging.getLogger("pydicom").isEnabledFor(logging.ERROR)
