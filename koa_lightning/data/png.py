"""Plain PNG files, which most radiographs of data sets are, decoded by OpenCV.

PIL holds Python's lock for a part of each image, so that two threads decode 1.5 times what one does; OpenCV does not.
Only what both decode to the same pixels is taken, and only where every checksum is right, as OpenCV fills in what is
missing of a damaged file without a word.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY_8 = bytes((8, 0, 0, 0, 0))  # of the header: bits, colour type, compression, filter, not interlaced
_HARMLESS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"tIME", b"bKGD", b"sBIT", b"cHRM", b"sRGB"}


def size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a plain PNG file: 8-bit gray, whole, and nothing in it that turns or mixes pixels.

    Args:
        data: The whole file.
    """
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or data[24:29] != _GRAY_8:
        return None
    at, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4])
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if kind not in _HARMLESS or zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4]):
            return None
        at = end + 4
    if at != len(data):
        return None
    return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])


def pixels(data: bytes) -> np.ndarray | None:
    """Decode a file of which `size` is not None; return uint8 H x W, or None where OpenCV cannot."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found if found is not None and found.ndim == 2 and found.dtype == np.uint8 else None
