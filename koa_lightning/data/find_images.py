"""The image files of a folder or a pattern."""

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NoReturn

from koa_lightning.config.places import user_path
from koa_lightning.data.gray import input_errors
from koa_lightning.data.images import is_dicom
from koa_lightning.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".dcm", ".dicom")

# What network drives and operating systems put beside data: previews, waste, other files' metadata; in lower case.
_SYSTEM = {
    "__macosx", "lost+found", "$recycle.bin", "recycler", "recycled", "system volume information",
    "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@transcode", "@tmp", "network trash folder",
    "temporary items", "thumbnails", ".trash",
}  # fmt: skip
_SYSTEM_STARTS = ("@ea", "found.0", ".trash")


def is_system(name: str) -> bool:
    """Tell whether a folder or file of this name is the system's, or hidden, so that no image in it is a knee.

    Args:
        name: Without its folder.
    """
    lower = name.lower()
    return name.startswith(".") or lower in _SYSTEM or lower.startswith(_SYSTEM_STARTS)


def say_skipped(where: str, skipped: Iterable[Path]) -> None:
    """Say in one line, once a process, which hidden files and folders of the system were omitted, if any were.

    Args:
        where: What was searched, for the message.
        skipped: They.
    """
    names = sorted(readable_name(path) for path in skipped)
    if names:
        more = "" if len(names) == 1 else f" and {len(names) - 1} more"
        _say_once(f"WARNING: {where}: skipped {names[0]}{more}: hidden, or folders of the system, not of radiographs")


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_images(where: str, without: Path | None = None) -> list[Path]:
    """List the image files of a folder (with its subfolders) or of a glob pattern, sorted.

    Images are files with a known ending in any case (`SUFFIXES`), and DICOM files without ending. Hidden
    files and folders and those of the system (`is_system`) are omitted, and reported; linked folders inside a
    folder are not followed. A file that is named by itself is taken whatever its ending.

    Args:
        where: A file, a folder, or a pattern.
        without: A folder whose files are omitted, such as pictures that an earlier run wrote below the input.

    Raises:
        InputError: Nothing is found, or a folder cannot be read.
    """
    path = user_path(where)
    if path.is_file():
        return [path]
    skipped: set[Path] = set()
    if path.is_dir():
        found = [file for file in _walk(path, skipped) if _is_image(file)]
    else:
        # not Path.glob: it takes no absolute pattern and matches hidden files
        matches = {Path(match) for match in glob.glob(str(path), recursive=True)}  # noqa: PTH207
        found = [file for file in _of_no_system(matches, path, skipped) if file.is_file() and _is_image(file)]
    if without is not None and not path.resolve().is_relative_to(without.resolve()):
        found = [file for file in found if not file.resolve().is_relative_to(without.resolve())]
        skipped = {file for file in skipped if not file.resolve().is_relative_to(without.resolve())}
    say_skipped(where, skipped)
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


def _walk(folder: Path, skipped: set[Path]) -> Iterator[Path]:
    """Yield the files of a folder and add to `skipped` what is not looked at, though it may hold images."""
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        skipped.update(Path(parent, name) for name in folders if is_system(name))
        skipped.update(Path(parent, name) for name in files if is_system(name) and name.lower().endswith(SUFFIXES))
        folders[:] = [name for name in folders if not is_system(name)]
        yield from (Path(parent, name) for name in files if not is_system(name))


def _of_no_system(matches: Iterable[Path], pattern: Path, skipped: set[Path]) -> Iterator[Path]:
    """Yield the matches of a pattern but for those in a folder of the system that the pattern does not name."""
    for file in matches:
        parts = [part for part in file.parts if is_system(part) and part not in pattern.parts and part != ".."]
        if parts:
            skipped.add(Path(*file.parts[: file.parts.index(parts[0]) + 1]))
        else:
            yield file


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
