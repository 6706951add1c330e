"""From one image file to one uint8 gray array.

This module keeps no state, so every function is thread-safe.
"""

import os
import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import DTypeLike
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from koa_lightning.data import png
from koa_lightning.data.gray import MAX_PIXELS, MIN_SIDE, check_size, input_errors, one_line, stretch
from koa_lightning.errors import InputError

MAX_BYTES = 2 * 2**30  # more than the largest picture needs in any format

_MARK = slice(128, 132)  # where a DICOM file says "DICM"
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
_WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # PIL modes of more than 8 bits
_COLOUR_16 = ("RGB", "LA;16", "CMYK")  # PIL cuts these raw modes with ";16" to their high bytes
_LUMA = np.array([0.114, 0.587, 0.299])  # of blue, green and red (ITU-R 601)
_UNREADABLE_TIFF = {(2, 8), (1, 32)}  # (SampleFormat, BitsPerSample) that PIL reads with wrapped values
_ORIENTATION_TAG, _SAMPLE_FORMAT_TAG, _BITS_TAG, _PHOTOMETRIC_TAG = 274, 339, 258, 262
_UPRIGHT = {  # EXIF orientation -> its inverse
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Image.MAX_IMAGE_PIXELS = None  # its warnings would be extra lines; `check_size` checks the header

# PIL warns once per file of odd metadata that do not affect the pixels; other faults raise. Only these plugins are
# silenced. `append` lets every user filter win. A process-wide filter is thread-safe, `catch_warnings` is not.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.(Tiff|Jpeg|Png)ImagePlugin", append=True)


def read_image(path: str | Path) -> np.ndarray:
    """Read a PNG, JPEG, TIFF, WebP, BMP or DICOM file as gray.

    See `decode` for how pixels become 8 bits.

    Returns:
        uint8, H x W, 0..255, upright by its EXIF orientation; possibly read-only.

    Raises:
        InputError: It is missing, a folder, or has a fault listed in `decode`.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file.

    Raises:
        InputError: It is missing, a folder, larger than `MAX_BYTES`, or cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path costs a twentieth of the time to decode a knee
            size = os.fstat(file.fileno()).st_size
            if size <= MAX_BYTES:
                return file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, not an image; name a file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise InputError(f"{path}: cannot be read ({one_line(error)}); check its permissions") from error
    raise InputError(f"{path}: is too large for an image ({size / 2**30:.1f} GB, 2 at most); check what it is")


def decode(data: bytes, name: str, dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Decode the bytes of an image file to gray; the content decides its format.

    8-bit gray is unchanged. Colour becomes its luma (ITU-R 601), and transparency is laid on black. Images of more than
    8 bits (16-bit, 32-bit, float) are mapped linearly from lowest..highest value to 0..255, constant ones to zeros.
    For DICOM see `koa_lightning.data.dicom.pixels.read_dicom`. In 16 bits, 65535 replaces 255.

    Args:
        data: The whole file.
        name: Its name in error messages; the extension .dcm or .dicom marks DICOM too.
        dtype: uint8 or uint16.

    Returns:
        `dtype`, H x W, 0..255 or 0..65535; possibly read-only.

    Raises:
        InputError: Empty, not an image, truncated or damaged, more than `MAX_PIXELS` pixels (by its header),
            a side under `MIN_SIDE` pixels, several pictures, NaN or infinite values, or a depth that no
            decoder here reads.
    """
    if not data:
        raise InputError(f"{name}: the file is empty (0 bytes); copy it again")
    if is_dicom(data, name):
        # pydicom takes a tenth as long to import as torch; few files need it
        from koa_lightning.data.dicom.pixels import read_dicom

        return read_dicom(data, name, dtype)
    size = png.size(data) if dtype == np.uint8 else None
    if size and min(size) >= MIN_SIDE and size[0] * size[1] <= MAX_PIXELS and (plain := png.pixels(data)) is not None:
        return plain
    with input_errors(name, "truncated or damaged image"):
        image = _open(data, name)
        if _is_deep_colour(image):
            return _gray_of_deep_colour(data, image, name, dtype)
        image.load()
        return _gray(image, name, dtype)


def gray_of(image: Image.Image, name: str) -> np.ndarray:
    """Return a PIL image as gray, like `decode` for a file.

    Args:
        image: Of any mode.
        name: Its name in error messages.

    Returns:
        uint8, H x W, 0..255, upright by its EXIF orientation.

    Raises:
        InputError: It is too large or too small, has NaN or infinite values, or cannot be read.
    """
    check_size(image.height, image.width, name)
    with input_errors(name, "truncated or damaged image"):
        image.load()
        return _gray(image, name, np.uint8)


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Return height and width of an image from its header; no pixels are decoded.

    Args:
        data: The whole file.
        name: Its name in error messages.

    Raises:
        InputError: It is not an image, or has a size that `gray.check_size` refuses.
    """
    if not data:
        raise InputError(f"{name}: the file is empty (0 bytes); copy it again")
    if is_dicom(data, name):
        from koa_lightning.data.dicom.pixels import dicom_size  # as in `decode`

        return dicom_size(data, name)
    with input_errors(name, "truncated or damaged image"):
        image = _open(data, name)
        return image.height, image.width


def is_dicom(data: bytes, name: str) -> bool:
    """Tell whether the bytes of a file are DICOM, by its mark or by the extension of its name."""
    return data[_MARK] == b"DICM" or name.lower().endswith((".dcm", ".dicom"))


def _open(data: bytes, name: str) -> ImageFile:
    """Read only the header and refuse files that must not or cannot be decoded."""
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise InputError(
            f"{name}: not a readable PNG, JPEG, TIFF, WebP, BMP or DICOM image (another format, or cut short); "
            "export it again as 8- or 16-bit gray PNG"
        ) from None
    check_size(image.height, image.width, name)
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: previews behind the photograph
        raise InputError(f"{name}: holds several pictures; save the one to be graded")
    _check_depth(image, name)
    return image


def _check_depth(image: ImageFile, name: str) -> None:
    """Refuse depths that PIL accepts but reads with wrong values."""
    tags = getattr(image, "tag_v2", {})
    bits, kind = tags.get(_BITS_TAG, (8,)), tags.get(_SAMPLE_FORMAT_TAG, (1,))
    if (kind[0], bits[0]) in _UNREADABLE_TIFF:
        raise InputError(
            f"{name}: signed 8-bit or unsigned 32-bit TIFF is not supported; save it as 16-bit or float gray"
        )


def _is_deep_colour(image: ImageFile) -> bool:
    """Tell whether an image has colour or transparency in 16 bits, which PIL would cut."""
    arguments = image.tile[0][3] if image.tile else ""
    raw_mode = arguments if isinstance(arguments, str) else str(arguments[0] if arguments else "")
    return ";16" in raw_mode and raw_mode.startswith(_COLOUR_16)


def _gray_of_deep_colour(data: bytes, image: ImageFile, name: str, dtype: DTypeLike) -> np.ndarray:
    """Decode an image of `_is_deep_colour`: its luma, transparency on black, stretched like other 16-bit images."""
    turn = _turn(image)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise InputError(f"{name}: this kind of 16-bit colour is not supported; save it as 16-bit gray or 8-bit colour")
    luma = pixels[..., :3] @ _LUMA
    if pixels.shape[2] == 4:
        luma *= pixels[..., 3] / np.iinfo(np.uint16).max
    gray = stretch(luma, name, dtype)
    return gray if turn is None else np.asarray(Image.fromarray(gray).transpose(turn))


def _turn(image: Image.Image) -> Image.Transpose | None:
    return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))


def _gray(image: Image.Image, name: str, dtype: DTypeLike) -> np.ndarray:
    turn = _turn(image)  # after load: PIL then rotates TIFF itself, and PNG may have its EXIF behind the pixels
    if image.mode in _WIDE:
        gray = stretch(np.asarray(image if turn is None else image.transpose(turn)), name, dtype)
        # PIL inverts white-is-zero TIFF in 8 bits, but not in more
        return np.iinfo(dtype).max - gray if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0 else gray
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
    if image.mode != "L":
        image = image.convert("RGB").convert("L")  # via RGB, as not every mode converts to L
    gray = np.asarray(image if turn is None else image.transpose(turn))
    return gray if gray.dtype == dtype else gray.astype(dtype) * 257  # 255 becomes 65535
