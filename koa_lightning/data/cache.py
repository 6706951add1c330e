"""Knees decoded once to uint8 in one memory-mapped file, named by content and preprocessing."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data.images import fit as fit_image
from koa_lightning.data.images import one_line, read_image
from koa_lightning.data.manifest import PHANTOM
from koa_lightning.data.phantom import draw_phantoms
from koa_lightning.errors import InputError

VERSION = 1  # raise it when decoding, fitting or the phantom changes, so that old files are not taken
CHUNK = 64  # knees a task: large enough for the phantom's vectorised drawing, small enough for a smooth bar
CHUNK_BYTES = 1 << 23  # ... and so that few large images do not fill the memory


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
    when its holder dies lets one run build while others wait. Images that could not be read are tried again each
    time, as what was missing may be there now; if one can be read, the cache is built anew.

    Raises:
        InputError: The folder cannot be read or written, or the disk is full.
    """
    where = folder or default_dir()
    final = where / f"{key(hashes, sides, preprocessing)}.npy"
    shape = (len(paths), preprocessing.image_size, preprocessing.image_size)
    try:
        where.mkdir(parents=True, exist_ok=True)
        opened, built = _open(final, shape, paths), False
        if opened is None:
            with _locked(final.with_suffix(".lock")):
                opened = _open(final, shape, paths)  # another run may have built it meanwhile
                if opened is None:
                    _build(final, shape, paths, sides, preprocessing, quiet)
                    opened, built = _open(final, shape, paths), True
    except OSError as error:  # of the cache's own files: faults of images are InputErrors already
        why = error.strerror or one_line(error)
        raise InputError(f"{where}: the cache cannot be written or read ({why}); set data.cache_dir=DIR") from error
    if opened is None:
        raise InputError(f"{final}: was changed while it was built; delete it and try again")
    return Cache(*opened, final, built)


def _open(final: Path, shape: tuple[int, int, int], paths: Sequence[str]) -> tuple[np.ndarray, dict[int, str]] | None:
    """Return the images and the rows that cannot be read; None when there is no whole and current cache."""
    try:
        images = np.load(final, mmap_mode="r")
        rows = [int(row) for row in json.loads(final.with_suffix(".json").read_text())]
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):  # shorter than its header says: copied in part, or a disk that failed
        return None
    if images.shape != shape or images.dtype != np.uint8:
        return None
    faults = {row: _fault(paths[row]) for row in rows}
    unreadable = {row: fault for row, fault in faults.items() if fault}
    return (images, unreadable) if len(unreadable) == len(faults) else None


def _fault(path: str) -> str:
    try:
        read_image(path)
    except InputError as error:
        return str(error)
    return ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another run is building this cache ({path.stem}); waiting for it", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(
    final: Path,
    shape: tuple[int, int, int],
    paths: Sequence[str],
    sides: Sequence[str],
    preprocessing: Preprocessing,
    quiet: bool,
) -> None:
    if final.exists():
        print(
            f"WARNING: {final}: damaged, or some images can be read now; it is built anew", file=sys.stderr, flush=True
        )
        final.unlink()
    for leftover in final.parent.glob(f"{final.stem}.*.part"):
        leftover.unlink()  # of a build that was killed: we hold the lock, so nobody writes it
    part = final.parent / f"{final.stem}.{os.getpid()}.part"
    needed, free = math.prod(shape), shutil.disk_usage(final.parent).free
    if needed > free:  # said now, not after an hour of decoding
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    unreadable: dict[int, str] = {}
    try:
        # Written, not mapped: a full disk is an error here, and would kill the process there (SIGBUS).
        with part.open("wb") as file:
            _write_header(file, shape)
            with closing(_decode_all(paths, sides, preprocessing, quiet)) as chunks:
                for images, faults in chunks:
                    file.write(images.data)
                    unreadable |= faults
                    _to_disk(file)  # now, while the next are decoded: at the end everything would wait for it
        with final.with_suffix(".json").open("wb") as file:
            file.write(json.dumps(unreadable).encode())
            _to_disk(file)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())  # else a rename may outlive a power failure and the content not


def _decode_all(
    paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, quiet: bool
) -> Generator[tuple[np.ndarray, dict[int, str]]]:
    """Decode on all cores; yield chunk by chunk, in order, the images and what could not be read."""
    step = max(1, min(CHUNK, CHUNK_BYTES // preprocessing.image_size**2))
    chunks = [range(start, min(start + step, len(paths))) for start in range(0, len(paths), step)]
    workers = 2 * (os.cpu_count() or 1)  # two a core: while one waits for the interpreter, the other decodes
    with (
        Progress(console=Console(stderr=True), disable=quiet, transient=False) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        shown = bar.add_task("decoding knees, once", total=len(paths))
        pending: deque[Future[tuple[np.ndarray, dict[int, str]]]] = deque()
        try:
            for number, rows in enumerate(chunks):
                pending.append(pool.submit(_decode_chunk, rows, paths, sides, preprocessing))
                if number >= workers:  # so many chunks wait in memory, no more
                    yield pending.popleft().result()
                    bar.advance(shown, step)
            while pending:
                yield pending.popleft().result()
                bar.advance(shown, step)
        finally:  # Ctrl-C must not wait for the rest
            pool.shutdown(wait=True, cancel_futures=True)


def _decode_chunk(
    rows: range, paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing
) -> tuple[np.ndarray, dict[int, str]]:
    images = np.zeros((len(rows), preprocessing.image_size, preprocessing.image_size), np.uint8)
    faults: dict[int, str] = {}
    if paths[rows[0]].startswith(PHANTOM):
        drawn = decode_phantoms([paths[row] for row in rows], preprocessing.image_size)
        images[:] = [preprocessing.apply(image, sides[row]) for row, image in zip(rows, drawn, strict=True)]
        return images, faults
    for at, row in enumerate(rows):
        try:
            images[at] = preprocessing.apply(read_image(paths[row]), sides[row])
        except InputError as error:
            faults[row] = str(error)
    return images, faults


def decode_phantoms(paths: Sequence[str], size: int) -> np.ndarray:
    """Draw the phantoms with these names, uint8 N x size x size; all must be of one seed."""
    seeds, names = zip(*(path.removeprefix(PHANTOM).split("/") for path in paths), strict=True)
    knees, grades = zip(*(name.rsplit("-", 1) for name in names), strict=True)
    patients, sides = [knee[:-1] for knee in knees], [knee[-1] for knee in knees]
    return draw_phantoms(patients, sides, [int(grade) for grade in grades], seed=int(seeds[0]), size=size)
