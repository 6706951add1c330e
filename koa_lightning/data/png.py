"""Plain PNG files, the most common kind of radiograph in data sets, decoded by OpenCV.

PIL holds Python's lock for part of each image, so two threads decode only 1.5 times as fast as one; OpenCV does not
hold it. Only files that both libraries decode identically are accepted, and only with correct checksums, since
OpenCV silently fills in the missing parts of a damaged file.
"""

from __future__ import annotations

import zlib

import cv2
import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY_8 = bytes((8, 0, 0, 0, 0))  # of the header: bits, colour type, compression, filter, not interlaced
_HARMLESS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"gAMA", b"tIME", b"bKGD", b"sBIT", b"cHRM", b"sRGB"}


def size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of a plain PNG file: 8-bit gray, complete, without rotation or transparency.

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
    """Decode a file whose `size` is not None; return uint8 H x W, or None if OpenCV cannot."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return found if found is not None and found.ndim == 2 and found.dtype == np.uint8 else None
