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

# Lower-case names that network drives and systems put beside data: previews, recycle bins, other files' metadata.
_SYSTEM = {
    "__macosx", "lost+found", "$recycle.bin", "recycler", "recycled", "system volume information",
    "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@transcode", "@tmp", "network trash folder",
    "temporary items", "thumbnails", ".trash",
}  # fmt: skip
_SYSTEM_STARTS = ("@ea", "found.0", ".trash")


def is_system(name: str) -> bool:
    """Tell whether a folder or file belongs to the system or is hidden, so that its images are not knees.

    Args:
        name: Without its folder.
    """
    lower = name.lower()
    return name.startswith(".") or lower in _SYSTEM or lower.startswith(_SYSTEM_STARTS)


def say_skipped(where: str, skipped: Iterable[Path]) -> None:
    """Warn in one line, once per process, about the hidden files and system folders that were omitted, if any.

    Args:
        where: The searched place, for the message.
        skipped: The omitted paths.
    """
    names = sorted(readable_name(path) for path in skipped)
    if names:
        more = "" if len(names) == 1 else f" and {len(names) - 1} more"
        _say_once(f"WARNING: {where}: skipped {names[0]}{more}: hidden files or system folders, not radiographs")


@cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def find_images(where: str, without: Path | None = None) -> list[Path]:
    """List the image files of a folder (with its subfolders) or of a glob pattern, sorted.

    Images are files with a known extension in any case (`SUFFIXES`), and DICOM files without an extension. Hidden files
    and folders and those of the system (`is_system`) are omitted and reported; linked folders inside a folder are not
    followed. A file that is given directly is accepted whatever its extension.

    Args:
        where: A file, a folder, or a pattern.
        without: A folder whose files are omitted, such as output of an earlier run below the input.

    Raises:
        InputError: There is no image, or a folder cannot be read.
    """
    path = user_path(where)
    if path.is_file():
        return [path]
    skipped: set[Path] = set()
    if path.is_dir():
        found = [file for file in _walk(path, skipped) if _is_image(file)]
    else:
        # not Path.glob: it rejects absolute patterns and matches hidden files
        matches = {Path(match) for match in glob.glob(str(path), recursive=True)}  # noqa: PTH207
        found = [file for file in _of_no_system(matches, path, skipped) if file.is_file() and _is_image(file)]
    if without is not None and not path.resolve().is_relative_to(without.resolve()):
        found = [file for file in found if not file.resolve().is_relative_to(without.resolve())]
        skipped = {file for file in skipped if not file.resolve().is_relative_to(without.resolve())}
    say_skipped(where, skipped)
    if not found:
        raise InputError(
            f"{where}: no image found (a file, a folder with its subfolders, or a pattern; extensions "
            f"{' '.join(SUFFIXES)}, or DICOM without an extension); check the path"
        )
    return sorted(found)


def readable_name(path: Path) -> str:
    """Return a path as printable text, whatever bytes its name contains."""
    return os.fsencode(path).decode(errors="backslashreplace")


def check_name(path: Path) -> None:
    """Refuse a file whose name cannot be stored in a table.

    Raises:
        InputError: The name is not UTF-8.
    """
    if (name := readable_name(path)) != str(path):
        raise InputError(f"{name}: the name of this file is not UTF-8; rename it")


def refuse_unreadable(error: OSError) -> NoReturn:
    """Report a folder that cannot be listed.

    Raises:
        InputError: Always.
    """
    raise InputError(f"{error.filename}: the folder cannot be read; check its permissions") from error


def _walk(folder: Path, skipped: set[Path]) -> Iterator[Path]:
    """Yield the files of a folder and add omitted entries that may hold images to `skipped`."""
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        skipped.update(Path(parent, name) for name in folders if is_system(name))
        skipped.update(Path(parent, name) for name in files if is_system(name) and name.lower().endswith(SUFFIXES))
        folders[:] = [name for name in folders if not is_system(name)]
        yield from (Path(parent, name) for name in files if not is_system(name))


def _of_no_system(matches: Iterable[Path], pattern: Path, skipped: set[Path]) -> Iterator[Path]:
    """Yield the matches of a pattern, except those in a system folder that the pattern does not name."""
    for file in matches:
        parts = [part for part in file.parts if is_system(part) and part not in pattern.parts and part != ".."]
        if parts:
            skipped.add(Path(*file.parts[: file.parts.index(parts[0]) + 1]))
        else:
            yield file


def _is_image(file: Path) -> bool:
    suffix = file.suffix.lower()
    if file.exists() and not file.is_file():
        return False  # a folder, or a pipe, which would block
    if suffix in SUFFIXES:
        return True  # also a broken link, which is reported later
    # An instance UID as name ends in ".<number>", which is not an extension. A DICOMDIR is an index without pixels.
    if (suffix and not suffix[1:].isdigit()) or file.name.upper() == "DICOMDIR" or not file.exists():
        return False
    with input_errors(str(file), "cannot be read"), file.open("rb") as stream:
        return is_dicom(stream.read(132), "")
