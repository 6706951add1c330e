"""Folders of images by grade, `{0..4}/NAME`, and folders of splits, for all file sources; no image is opened."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pandas as pd

from koa_lightning.config.places import user_path
from koa_lightning.data import manifest as mf
from koa_lightning.data.find_images import SUFFIXES, check_name, is_system, refuse_unreadable
from koa_lightning.data.patterns import NamePattern
from koa_lightning.errors import InputError

_GRADES = tuple(str(grade) for grade in mf.GRADES)


def data_folder(root: str | None, key: str) -> Path:
    """Return the folder that a setting names.

    Raises:
        InputError: The setting is missing, or its folder does not exist or cannot be read.
    """
    if not root:
        raise InputError(f"{key} must be given; type {key}=FOLDER")
    folder = user_path(root)
    if not folder.is_dir():
        raise InputError(f"{key}={root}: " + ("is not a folder" if folder.exists() else "there is no such folder"))
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"{key}={root}: the folder cannot be read; check its permissions")
    return folder


def images_of(folder: Path, skipped: set[Path]) -> list[Path]:
    """Return the images of a grade's folder, including broken links, which the cache reports.

    Hidden and system entries are added to `skipped`.

    Raises:
        InputError: A subfolder has images, which would be omitted.
    """
    names = []
    with os.scandir(folder) as entries:  # it distinguishes files from folders without a call per entry
        for entry in entries:
            if is_system(entry.name):
                if entry.is_dir() or entry.name.lower().endswith(SUFFIXES):
                    skipped.add(Path(entry.path))
            elif entry.is_dir():
                _refuse_images_within(Path(entry.path))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                names.append(entry.name)
    return [folder / name for name in sorted(names)]


def _refuse_images_within(folder: Path) -> None:
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        folders[:] = [name for name in folders if not is_system(name)]
        inside = [name for name in files if name.lower().endswith(SUFFIXES) and not is_system(name)]
        if inside:
            raise InputError(f"{parent}: has {len(inside)} image(s) below a grade's folder; move them up into it")


def names_found(folder: Path) -> str:
    """Return a few names in a folder, for messages."""
    names = sorted(p.name for p in folder.iterdir())
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def _folders(folder: Path, skipped: set[Path]) -> list[Path]:
    """Return the folders within a folder, sorted; hidden ones and those of the system are added to `skipped`."""
    inside = [path for path in folder.iterdir() if path.is_dir()]
    skipped.update(path for path in inside if is_system(path.name))
    return sorted(path for path in inside if not is_system(path.name))


def graded(folder: Path, skipped: set[Path]) -> pd.DataFrame:
    """Return path and grade of `{0..4}/NAME` below a folder; a folder with another name is an error."""
    try:
        folders = _folders(folder, skipped)
        if strange := sorted({path.name for path in folders} - set(_GRADES)):
            raise InputError(f"{folder}: folder '{strange[0]}' is not a grade; name the folders 0, 1, 2, 3, 4")
        rows = [(str(image), int(path.name)) for path in folders for image in images_of(path, skipped)]
    except OSError as error:
        refuse_unreadable(error)
    for path, _ in rows:
        check_name(Path(path))
    return pd.DataFrame(rows, columns=["path", "grade"])


def with_names(rows: pd.DataFrame, pattern: NamePattern, hint: str) -> pd.DataFrame:
    """Read patient and side from file names by a pattern with the groups `patient` and, if any, `side`."""
    patients, sides = [], []
    for path in rows["path"]:
        patient, side = pattern.read(path)
        if not patient:
            raise InputError(f"{path}: the pattern {pattern.typed} finds no patient in this name; {hint}")
        patients.append(patient)
        sides.append(side)
    return rows.assign(patient=patients, side=sides)


def split_folders(folder: Path, where: str, skipped: set[Path]) -> dict[str, Path]:
    """Return the folder of each split, in the order of the splits.

    Raises:
        InputError: Two folders stand for the same split.
    """
    try:
        named = [(mf.split_of(path.name), path) for path in _folders(folder, skipped)]
    except OSError as error:
        refuse_unreadable(error)
    splits: dict[str, Path] = {}
    for split in (*mf.SPLITS, mf.AUTO_TEST):
        paths = [path for own, path in named if own == split]
        if len(paths) > 1:
            both = " and ".join(f"'{path.name}'" for path in paths)
            raise InputError(f"{where}: the folders {both} would both be the {split} split; merge or rename them")
        if paths:
            splits[split] = paths[0]
    return splits


def say_unread(folder: Path, read: list[Path], where: str) -> None:
    """Warn about folders with grades that belong to no split, at most two folders deep."""
    found: dict[str, int] = {}
    levels = [folder, *(each for each in _folders(folder, set()) if each not in read and each.name not in _GRADES)]
    try:
        levels += [deep for each in levels[1:] for deep in _folders(each, set()) if deep.name not in _GRADES]
        for each in levels:
            graded = [each / grade for grade in _GRADES if (each / grade).is_dir()]
            n = sum(len(images_of(path, set())) for path in graded)
            if n:
                found["." if each == folder else each.relative_to(folder).as_posix()] = n
    except OSError as error:
        refuse_unreadable(error)
    if found:
        listed = ", ".join(f"'{name}' ({n} images)" for name, n in found.items())
        line = f"WARNING: {where}: folders with grades are not read: {listed}; splits are named train, val, test"
        print(f"{line}, auto_test", file=sys.stderr, flush=True)
