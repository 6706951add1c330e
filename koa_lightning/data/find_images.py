"""The image files of a folder or a pattern."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from koa_lightning.data.gray import input_errors
from koa_lightning.data.images import is_dicom
from koa_lightning.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom")


def find_images(where: str, without: Path | None = None) -> list[Path]:
    """List the image files of a folder (with its subfolders) or of a glob pattern, sorted.

    Images are files with a known ending in any case (`SUFFIXES`), and DICOM files without ending. Hidden
    files and folders are left out, and linked folders inside a folder are not followed. A file that is named
    by itself is taken whatever its ending.

    Args:
        where: A file, a folder, or a pattern.
        without: A folder whose files are left out, such as pictures that an earlier run wrote below the input.

    Raises:
        InputError: Nothing is found, or a folder cannot be read.
    """
    path = Path(where).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [file for file in _walk(path) if _is_image(file)]
    else:
        # not Path.glob: it takes no absolute pattern and matches hidden files
        matches = {Path(match) for match in glob.glob(str(path), recursive=True)}  # noqa: PTH207
        found = [file for file in matches if file.is_file() and _is_image(file)]
    if without is not None and not path.resolve().is_relative_to(without.resolve()):
        found = [file for file in found if not file.resolve().is_relative_to(without.resolve())]
    if not found:
        raise InputError(
            f"{where}: no image found (a file, a folder with its subfolders, or a pattern; endings "
            f"{' '.join(SUFFIXES)}, or DICOM without ending); check the path"
        )
    return sorted(found)


def readable_name(path: Path) -> str:
    """Return a path as text that can be printed and stored, whatever bytes its name is made of."""
    return os.fsencode(path).decode(errors="backslashreplace")


def check_name(path: Path) -> None:
    """Refuse a file whose name no table can hold.

    Raises:
        InputError: The name is not UTF-8.
    """
    if (name := readable_name(path)) != str(path):
        raise InputError(f"{name}: the name of this file is not UTF-8; rename it")


def refuse_unreadable(error: OSError) -> NoReturn:
    """Tell of a folder that cannot be listed.

    Raises:
        InputError: Always.
    """
    raise InputError(f"{error.filename}: the folder cannot be read; check its permissions") from error


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _is_image(file: Path) -> bool:
    suffix = file.suffix.lower()
    if file.exists() and not file.is_file():
        return False  # a folder, or a pipe, which would be waited for
    if suffix in SUFFIXES:
        return True  # also a link to nothing, which will be told
    # An instance UID as name ends in ".<number>", which is no ending. A DICOMDIR is an index without pixels.
    if (suffix and not suffix[1:].isdigit()) or file.name.upper() == "DICOMDIR" or not file.exists():
        return False
    with input_errors(str(file), "cannot be read"), file.open("rb") as stream:
        return is_dicom(stream.read(132), "")
