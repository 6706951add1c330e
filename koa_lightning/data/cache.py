"""Knees decoded once to uint8 in one memory-mapped file, named by content and preprocessing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data.images import fit as fit_image
from koa_lightning.data.images import read_image
from koa_lightning.data.manifest import PHANTOM
from koa_lightning.data.phantom import draw_phantoms
from koa_lightning.errors import InputError

VERSION = 1  # raise it when decoding, fitting or the phantom changes, so that old files are not taken
CHUNK = 64  # knees a task: large enough for the phantom's vectorised drawing, small enough for a smooth bar


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image before a model sees it, apart from normalisation.

    Attributes:
        image_size: Side of the square, in pixels.
        fit: `letterbox` keeps the aspect and pads with black; `stretch` does not.
        canonical_side: `L` or `R`: knees of the other side are mirrored to it; None: all stay as they are.
    """

    image_size: int = 224
    fit: str = "letterbox"
    canonical_side: str | None = None

    def apply(self, image: np.ndarray, side: str = "") -> np.ndarray:
        """Return a uint8 H x W image as uint8 image_size x image_size."""
        fitted = fit_image(image, self.image_size, self.fit)
        return np.ascontiguousarray(fitted[:, ::-1]) if self.mirrors(side) else fitted

    def mirrors(self, side: str) -> bool:
        """Tell whether a knee of this side is mirrored."""
        return bool(self.canonical_side) and side in ("L", "R") and side != self.canonical_side


@dataclass(frozen=True)
class Cache:
    """Images uint8 N x H x W (memory-mapped, read only) and the rows that could not be read, with their reason."""

    images: np.ndarray
    unreadable: dict[int, str]
    path: Path
    built: bool


def default_dir() -> Path:
    """Return the cache folder: `KOA_CACHE` if set, else the user's own."""
    return Path(os.environ.get("KOA_CACHE") or user_cache_dir("koa_lightning"))


def key(hashes: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing) -> str:
    """Return the name of a cache file: content, order, side (only where it matters) and preprocessing."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([VERSION, asdict(preprocessing)]).encode())
    for content, side in zip(hashes, sides, strict=True):
        digest.update(content.encode() + (b"<" if preprocessing.mirrors(side) else b"|"))
    return digest.hexdigest()


def open_cache(
    paths: Sequence[str],
    hashes: Sequence[str],
    sides: Sequence[str],
    preprocessing: Preprocessing,
    folder: Path | None = None,
    quiet: bool = False,
) -> Cache:
    """Return the cache of these knees; decode them first if it is not there.

    A file under its final name is always whole: it is written under another and renamed. A lock that the system frees
    when its holder dies lets one run build while others wait.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    where = folder or default_dir()
    name = key(hashes, sides, preprocessing)
    final = where / f"{name}.npy"
    try:
        where.mkdir(parents=True, exist_ok=True)
        built = False
        if not final.exists():
            with _lock(where / f"{name}.lock"):
                if not final.exists():
                    _build(final, paths, sides, preprocessing, quiet)
                    built = True
        unreadable = json.loads(final.with_suffix(".json").read_text())
        images = np.load(final, mmap_mode="r")
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{where}: the cache cannot be written ({error.strerror}); set data.cache_dir=DIR"
            ) from None
        raise
    return Cache(images, {int(row): reason for row, reason in unreadable.items()}, final, built)


def _lock(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another run is building this cache ({path.stem}); waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    return lock


def _build(final: Path, paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, quiet: bool) -> None:
    for leftover in final.parent.glob(f"{final.stem}.*.part"):
        leftover.unlink()  # of a build that was killed: we hold the lock, so nobody writes it
    part = final.parent / f"{final.stem}.{os.getpid()}.part"
    shape = (len(paths), preprocessing.image_size, preprocessing.image_size)
    try:
        images = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        with part.open("r+b") as file:
            # Writing to a sparse map on a full disk would kill the process; this raises ENOSPC instead.
            os.posix_fallocate(file.fileno(), 0, part.stat().st_size)
        unreadable: dict[int, str] = {}
        for rows, faults in _decode_all(images, paths, sides, preprocessing, quiet):
            del rows
            unreadable |= faults
        images.flush()
        final.with_suffix(".json").write_text(json.dumps(unreadable))
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def _decode_all(
    images: np.ndarray, paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, quiet: bool
) -> Iterator[tuple[int, dict[int, str]]]:
    """Decode in chunks on all cores, straight into the map; yield (rows done, faults) a chunk."""
    starts = range(0, len(paths), CHUNK)

    def task(start: int) -> tuple[int, dict[int, str]]:
        rows = range(start, min(start + CHUNK, len(paths)))
        return len(rows), _decode_chunk(images, rows, paths, sides, preprocessing)

    with (
        Progress(console=Console(stderr=True), disable=quiet, transient=False) as bar,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        shown = bar.add_task("decoding knees, once", total=len(paths))
        try:
            for done, faults in pool.map(task, starts):
                bar.advance(shown, done)
                yield done, faults
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _decode_chunk(
    images: np.ndarray, rows: range, paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing
) -> dict[int, str]:
    if paths[rows[0]].startswith(PHANTOM):
        drawn = decode_phantoms([paths[row] for row in rows], preprocessing.image_size)
        for row, image in zip(rows, drawn, strict=True):
            images[row] = preprocessing.apply(image, sides[row])
        return {}
    faults = {}
    for row in rows:
        try:
            images[row] = preprocessing.apply(read_image(paths[row]), sides[row])
        except InputError as error:
            faults[row] = str(error)
            images[row] = 0
    return faults


def decode_phantoms(paths: Sequence[str], size: int) -> np.ndarray:
    """Draw the phantoms with these names, uint8 N x size x size; all must be of one seed."""
    seeds, names = zip(*(path.removeprefix(PHANTOM).split("/") for path in paths), strict=True)
    knees, grades = zip(*(name.rsplit("-", 1) for name in names), strict=True)
    patients, sides = [knee[:-1] for knee in knees], [knee[-1] for knee in knees]
    return draw_phantoms(patients, sides, [int(grade) for grade in grades], seed=int(seeds[0]), size=size)
