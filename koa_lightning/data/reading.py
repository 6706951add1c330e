"""From a row of the manifest to its picture: the file at its path, or pixels from the source itself.

A source that is an object with `read(row)` returns the bytes of an image file, or the gray pixels as a uint8 or uint16
array H x W. Both are hashed, decoded once and cached like files. `read` may be called from several threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from koa_lightning.data.gray import check_size, one_line, stretch
from koa_lightning.data.images import decode
from koa_lightning.errors import InputError

Row = Mapping[str, Any]
Read = Callable[[Row], "bytes | np.ndarray"]


def reader_of(source: Any) -> Read | None:
    """Return the method that provides the pictures of a source; None if they are the files at its paths."""
    read = getattr(source, "read", None)
    return read if callable(read) else None


def row_reader(manifest: pd.DataFrame, read: Read | None) -> Callable[[int], np.ndarray] | None:
    """Return the function that provides the pixels of a manifest row by number; None if files do."""
    if read is None:
        return None
    return lambda number: pixels({str(k): v for k, v in manifest.iloc[number].items()}, read)


def content(row: Row, read: Read) -> bytes | np.ndarray:
    """Return the content that a source provides for a row of the manifest.

    Raises:
        InputError: It fails, or returns something other than bytes or gray pixels.
    """
    name = str(row["path"])
    try:
        found = read(row)
    except InputError:
        raise
    except (OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: the source cannot read this row ({one_line(error)})") from error
    if isinstance(found, bytes):
        return found
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype not in (np.uint8, np.uint16):
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise InputError(f"{name}: the source returns {what}; it must return bytes, or uint8 or uint16 pixels H x W")
    check_size(found.shape[0], found.shape[1], name)
    return found


def pixels(row: Row, read: Read) -> np.ndarray:
    """Return the picture of a row as uint8 H x W; wide pixels are mapped like those of files, see `images.decode`.

    Raises:
        InputError: It cannot be read.
    """
    found = content(row, read)
    if isinstance(found, bytes):
        return decode(found, str(row["path"]))
    return found if found.dtype == np.uint8 else stretch(found, str(row["path"]))


def hash_of(row: Row, read: Read) -> str:
    """Return the content hash of a row's picture (BLAKE2b, 16 bytes, hex); empty if it cannot be read."""
    try:
        found = content(row, read)
    except InputError:  # the decoder reports why
        return ""
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(found, np.ndarray):
        digest.update(f"{found.dtype.str}{found.shape}".encode())
        found = np.ascontiguousarray(found).tobytes()
    digest.update(found)
    return digest.hexdigest()
