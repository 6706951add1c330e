"""From one DICOM radiograph to one gray array of 8 or 16 bits, as a viewer would show it."""

import logging
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pydicom
from numpy.typing import DTypeLike
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, get_decoder, pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from koa_lightning.data.gray import MAX_PIXELS, check_size, input_errors, one_line, stretch
from koa_lightning.errors import InputError

_REQUIRED = ("PixelData", "Rows", "Columns", "BitsStored", "PhotometricInterpretation")
_META = slice(132, 144)  # first element of the file meta header: the length of its rest
_INFLATED = 2 * MAX_PIXELS + (64 << 20)  # bytes: the largest 16-bit picture plus a header
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601

# pydicom reports every odd value in every file as a warning and in its log (which Hydra prints), but raises on
# everything that matters for the pixels. Only its own warnings are silenced; `append` lets user filters win.
warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.", append=True)
logging.getLogger("pydicom").setLevel(logging.ERROR)


def read_dicom(data: bytes, name: str, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Decode a single-frame DICOM image of 8 to 16 bits stored.

    The steps follow the standard's order (PS3.3 C.11). First comes the modality LUT or rescale. Then the first VOI
    LUT applies, or else the first window, whose output range becomes 0..255; without both, lowest..highest value does.
    Last, MONOCHROME1 is inverted, so that bone is bright. Padding (PixelPaddingValue) is black and counts neither as
    lowest nor as highest. Colour becomes its luma (ITU-R 601) and has no VOI. In 16 bits, 65535 replaces 255.

    Args:
        data: The whole file.
        name: Its name in error messages.
        dtype: uint8 or uint16.

    Returns:
        `dtype`, H x W, 0..255 or 0..65535.

    Raises:
        InputError: Not DICOM; missing or truncated pixel data; several frames; another depth or photometric
            interpretation; a compression without decoder; a bad window or LUT; or a size that
            `koa_lightning.data.gray.check_size` refuses.
    """
    with input_errors(name, "damaged DICOM file"):
        check_inflated(data, name)
        try:
            dataset = pydicom.dcmread(BytesIO(data))
        except InvalidDicomError:
            raise InputError(
                f"{name}: not a DICOM file (no DICM mark at byte 128); export it again or correct its file extension"
            ) from None
        _check(dataset, name)
        show = _SHOW[dataset.PhotometricInterpretation]
    with input_errors(name, "truncated or damaged pixel data"):
        stored = pixel_array(dataset)
        expected = (dataset.Rows, dataset.Columns)
        if stored.shape[:2] != expected:
            raise InputError(
                f"{name}: its pixels are {stored.shape[:2]}, but its header says {expected}; export it again"
            )
    with input_errors(name, "its grayscale or colour tables cannot be applied"):
        return show(dataset, stored, name, np.dtype(dtype))


def dicom_size(data: bytes, name: str) -> tuple[int, int]:
    """Return rows and columns from the header; no pixels are decoded.

    Args:
        data: The whole file.
        name: Its name in error messages.

    Raises:
        InputError: It is not DICOM, or has a size that `koa_lightning.data.gray.check_size` refuses.
    """
    with input_errors(name, "damaged DICOM file"):
        check_inflated(data, name)
        try:
            dataset = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        except InvalidDicomError:
            raise InputError(
                f"{name}: not a DICOM file (no DICM mark at byte 128); export it again or correct its file extension"
            ) from None
        rows, columns = (int(dataset.get(keyword) or 0) for keyword in ("Rows", "Columns"))
        if not (rows and columns):
            raise InputError(f"{name}: DICOM without Rows or Columns, or cut short; export it again")
        check_size(rows, columns, name)
        return rows, columns


def check_inflated(data: bytes, name: str) -> None:
    """Refuse a deflated file that would exceed the size of any picture; pydicom inflates without a limit.

    Args:
        data: The whole file.
        name: Its name in error messages.

    Raises:
        InputError: It would exceed that size.
    """
    start = _META.stop + int.from_bytes(data[_META][-4:], "little")
    if str(DeflatedExplicitVRLittleEndian).encode() not in data[_META.stop : start]:
        return
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], _INFLATED)) == _INFLATED:
        raise InputError(f"{name}: inflates to more than {_INFLATED >> 20} MB; export it without deflation")


def _check(dataset: FileDataset, name: str) -> None:
    """Refuse unsupported files by their headers, before anything is decoded."""
    missing = [keyword for keyword in _REQUIRED if dataset.get(keyword) in (None, "", b"")]
    if missing:
        raise InputError(f"{name}: DICOM without {', '.join(missing)}, or cut short; export it again")
    frames = int(_number(dataset, "NumberOfFrames", name) or 1)
    if frames > 1:
        raise InputError(f"{name}: DICOM with {frames} frames; export the one to be graded")
    if not 8 <= dataset.BitsStored <= 16:
        raise InputError(f"{name}: {dataset.BitsStored} bits stored; only 8 to 16 are read, export it again")
    top = dataset.get("HighBit")
    if top not in (None, dataset.BitsStored - 1) or dataset.BitsStored > (dataset.get("BitsAllocated") or 16):
        # pydicom and GDCM ignore HighBit, so their agreement would prove nothing.
        raise InputError(
            f"{name}: HighBit {top} does not fit {dataset.BitsStored} bits stored of {dataset.get('BitsAllocated')}: "
            "its pixels may lie elsewhere; export it again"
        )
    if dataset.PhotometricInterpretation not in _SHOW:
        colours = dataset.PhotometricInterpretation
        raise InputError(f"{name}: photometric interpretation {colours} is not supported; export it as MONOCHROME2")
    check_size(dataset.Rows, dataset.Columns, name)
    _check_decoder(dataset.file_meta.TransferSyntaxUID, name)
    pixel = int(dataset.get("SamplesPerPixel") or 1) * int(dataset.get("BitsAllocated") or 8) // 8
    surplus = len(dataset.PixelData) // (dataset.Rows * dataset.Columns * max(1, pixel))
    if surplus > 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        raise InputError(f"{name}: DICOM with pixels of {surplus} frames, more than its header says; export it again")


def _check_decoder(syntax: UID, name: str) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise InputError(
            f"{name}: compressed as {syntax.name} ({syntax}), which no installed decoder reads; "
            'type pip install "koa-lightning[dicom]", or decompress it with gdcmconv --raw'
        )


def _show_monochrome(dataset: Dataset, stored: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    """Map each distinct stored value once through a table: at most 65,536 values, not millions of pixels."""
    low = int(stored.min())
    index = np.subtract(stored, low, dtype=np.intp)  # wide: the span of int16 does not fit int16
    occurs = np.zeros(int(stored.max()) - low + 1, bool)
    occurs[index] = True
    values = _without_padding(np.flatnonzero(occurs) + low, dataset, stored.dtype, name)
    shown = _voi(_modality(values, dataset, name), dataset, name, dtype)
    table = np.zeros(occurs.size, dtype)  # padding remains black
    table[values - low] = np.iinfo(dtype).max - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown
    return table[index]


def _without_padding(values: np.ndarray, dataset: Dataset, kind: np.dtype, name: str) -> np.ndarray:
    """Drop the stored values from PixelPaddingValue to PixelPaddingRangeLimit; either may be the lower."""
    ends = [_number(dataset, keyword, name) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return values
    # Convert to the pixel type: some writers give -2000 as the unsigned 63536.
    low, high = sorted(int(np.int64(ends[0] if end is None else end).astype(kind)) for end in ends)
    left = values[(values < low) | (values > high)]
    return left if left.size else values  # all values padded: the element is wrong


def _show_colour(dataset: Dataset, stored: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    """Return the luma of RGB; pydicom has already converted YBR to RGB."""
    return _luma(stored, dataset.BitsStored, dtype)


def _show_palette(dataset: Dataset, stored: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    colour = apply_color_lut(stored, dataset)
    return _luma(colour, 8 * colour.itemsize, dtype)


_SHOW: dict[str, Callable[[Dataset, np.ndarray, str, np.dtype], np.ndarray]] = {
    "MONOCHROME1": _show_monochrome,
    "MONOCHROME2": _show_monochrome,
    "PALETTE COLOR": _show_palette,
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), _show_colour),
}


def _luma(colour: np.ndarray, bits: int, dtype: np.dtype) -> np.ndarray:
    if dtype != np.uint8:  # PIL does not support colour of more than 8 bits
        return np.rint(colour @ _LUMA * (np.iinfo(dtype).max / (2**bits - 1))).astype(dtype)
    rgb = colour if bits == 8 else np.rint(colour * (255 / (2**bits - 1)))
    return np.array(Image.fromarray(rgb.astype(np.uint8)).convert("L"))


def _modality(values: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset.ModalityLUTSequence[0], dataset)
    slope, intercept = (_number(dataset, keyword, name) for keyword in ("RescaleSlope", "RescaleIntercept"))
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _voi(values: np.ndarray, dataset: Dataset, name: str, dtype: np.dtype) -> np.ndarray:
    if dataset.get("VOILUTSequence"):
        lut = dataset.VOILUTSequence[0]
        shown = _look_up(values, lut, dataset) / (2 ** lut.LUTDescriptor[2] - 1)
    else:
        centre, width = (_number(dataset, keyword, name) for keyword in ("WindowCenter", "WindowWidth"))
        if centre is None or width is None:
            return stretch(values, name, dtype)
        shown = _window(values, centre, width, dataset, name)
    return np.rint(np.iinfo(dtype).max * shown.clip(0, 1)).astype(dtype)


def _look_up(values: np.ndarray, lut: Dataset, dataset: Dataset) -> np.ndarray:
    """Apply a LUT: values below its range map to the first entry, values above it to the last."""
    first, data = lut.LUTDescriptor[1], lut.LUTData
    if isinstance(data, bytes):  # OW; otherwise pydicom has converted it to numbers
        data = np.frombuffer(data, "<u2" if dataset.original_encoding[1] else ">u2")
    entries = np.asarray(data)[: lut.LUTDescriptor[0] or 2**16]  # 0 stands for 65,536 in the 16-bit descriptor
    return entries[(np.rint(values).astype(np.int64) - first).clip(0, len(entries) - 1)]


def _number(dataset: Dataset, keyword: str, name: str) -> float | None:
    """Return the first value of an element that the pixels depend on; None if it is empty.

    Raises:
        InputError: It is not a number; ignoring it would change the picture.
    """
    try:
        value = dataset.get(keyword)
        if isinstance(value, MultiValue):
            value = value[0] if value else None
        number = None if value in (None, "") else float(value)
    except Exception as error:  # pydicom raises many types, all on first access to the value
        raise InputError(
            f"{name}: {keyword} is not a number ({one_line(error)}), so its grayscale or colour tables cannot be "
            "applied; correct it or export it again"
        ) from None
    if number is not None and not np.isfinite(number):
        raise InputError(f"{name}: {keyword} is {number}, so its grayscale or colour tables cannot be applied")
    return number


def _window(values: np.ndarray, centre: float, width: float, dataset: Dataset, name: str) -> np.ndarray:
    """Apply a window (PS3.3 C.11.2.1.2 and .3); its output range is 0..1, not yet clipped."""
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in _WINDOWS:
        raise InputError(f"{name}: VOI LUT function {function} is not supported; only {', '.join(_WINDOWS)} are")
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise InputError(f"{name}: window width {width:g}; correct or remove WindowCenter and WindowWidth")
    return _WINDOWS[function](values, centre, width)


def _linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return (values - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5  # a width of 1 is a step


def _linear_exact(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return (values - centre) / width + 0.5


def _sigmoid(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)  # 1 / (1 + exp(-4 (v - c) / w)), without overflow


_WINDOWS = {"LINEAR": _linear, "LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}
