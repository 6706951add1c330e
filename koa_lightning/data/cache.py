"""Knees decoded once to uint8 in one memory-mapped file, named by content and preprocessing."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_dir
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data import both_knees
from koa_lightning.data.cache_editions import editions, next_edition
from koa_lightning.data.cache_record import Record
from koa_lightning.data.gray import one_line
from koa_lightning.data.images import read_image
from koa_lightning.data.manifest import PHANTOM
from koa_lightning.data.parallel import in_order
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.preprocessing import Preprocessing, hash_pixels
from koa_lightning.errors import InputError

VERSION = 6  # raise it when decoding, fitting, the phantom or the record changes, so that old files are not taken
CHUNK = 64  # knees a task: large enough for the phantom's vectorised drawing, small enough for a smooth bar
CHUNK_BYTES = 1 << 23  # ... and so that few large images do not fill the memory
UNKNOWN_PIXELS = "0" * 32  # in place of a pixel hash: the image could not be read


@dataclass(frozen=True)
class Cache:
    """The knees, decoded.

    Attributes:
        images: uint8 N x H x W, memory-mapped, read only.
        unreadable: The rows that could not be read, with their reason.
        path: Of the images.
        built: Whether they were decoded now.
        pixels: N hashes (`hash_pixels`, 16 bytes, hex) of the pixels as they were decoded, before anything was done to
            them; `UNKNOWN_PIXELS` where the image could not be read.
        shapes: int64 N x 2, rows and columns of each image before it was fitted; 0 where it could not be read.
        repaired: The rows that were inverted on the way (`Preprocessing.fix_polarity`).
        films: The rows that show both knees, of which the one grade that a row has says little.
    """

    images: np.ndarray
    unreadable: dict[int, str]
    path: Path
    built: bool
    pixels: np.ndarray
    shapes: np.ndarray
    repaired: list[int]
    films: list[int]


_Read = Callable[[int], np.ndarray]


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
    read: Callable[[int], np.ndarray] | None = None,
) -> Cache:
    """Return the cache of these knees; decode them first if it is not there.

    A file under its final name is always whole: it is written under another and renamed. A lock that the system frees
    when its holder dies lets one run build while others wait. Images that could not be read are tried again each time,
    as what was missing may be there now; if one can be read, the cache is rebuilt, under a name of its own.

    Args:
        paths: Of the images; names, where `read` gives them.
        hashes: Of their content.
        sides: L, R or empty.
        preprocessing: What is done to each.
        folder: Of the cache; None: the user's.
        quiet: No progress bar.
        read: Gives the pixels of a row (uint8 H x W) that are in no file; None: the files at `paths`.

    Raises:
        InputError: The folder cannot be read or written, or the disk is full.
    """
    where, reader = folder or default_dir(), read or (lambda row: read_image(paths[row]))
    final = where / f"{key(hashes, sides, preprocessing)}.npy"
    shape = (len(paths), preprocessing.image_size, preprocessing.image_size)
    try:
        where.mkdir(parents=True, exist_ok=True)
        opened, built = _newest(final, shape, reader), False
        if opened is None:
            with _locked(final.with_suffix(".lock")):
                opened = _newest(final, shape, reader)  # another run may have built it meanwhile
                if opened is None:
                    _build(next_edition(final), shape, paths, sides, preprocessing, quiet, reader)
                    opened, built = _newest(final, shape, reader), True
    except OSError as error:  # of the cache's own files: faults of images are InputErrors already
        why = error.strerror or one_line(error)
        raise InputError(f"{where}: the cache cannot be written or read ({why}); set data.cache_dir=DIR") from error
    if opened is None:
        raise InputError(f"{final}: was changed while it was built; delete it and try again")
    return replace(opened, built=built)


def _newest(final: Path, shape: tuple[int, int, int], read: _Read) -> Cache | None:
    """Return the newest edition of the cache; None when it is not whole and current."""
    there = editions(final)
    return _open(there[0], shape, read) if there else None


def _open(final: Path, shape: tuple[int, int, int], read: _Read) -> Cache | None:
    """Return the cache; None when there is no whole and current one."""
    try:
        images = np.load(final, mmap_mode="r")
        record = json.loads(final.with_suffix(".json").read_text())
        rows = [int(row) for row in record["unreadable"]]
        pixels = np.frombuffer(record["pixels"].encode("ascii"), dtype="S32")
        shapes = np.array(record["shapes"], dtype=np.int64).reshape(-1, 2)
        repaired, films = ([int(row) for row in record[name]] for name in ("repaired", "films"))
    except FileNotFoundError:
        return None
    except (ValueError, EOFError, KeyError, TypeError, RecursionError):
        return None  # shorter than it says: copied in part, or a disk that failed
    fits = images.shape == shape and images.dtype == np.uint8 and len(pixels) == len(shapes) == shape[0]
    if not fits or not all(0 <= row < shape[0] for row in (*rows, *repaired, *films)):
        return None
    faults = {row: _fault(row, read) for row in rows}
    unreadable = {row: fault for row, fault in faults.items() if fault}
    whole = Cache(images, unreadable, final, False, pixels, shapes, repaired, films)
    return whole if len(unreadable) == len(faults) else None


def _fault(row: int, read: _Read) -> str:
    try:
        read(row)
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
    read: _Read,
) -> None:
    for leftover in final.parent.glob(f"{final.stem.partition('.')[0]}.*.part"):
        leftover.unlink()  # of a build that was killed: we hold the lock, so nobody writes it
    partial = final.parent / f"{final.stem}.{socket.gethostname()}-{os.getpid()}.part"
    needed, free = math.prod(shape), shutil.disk_usage(final.parent).free
    if needed > free:  # said now, not after an hour of decoding
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free")
    record = Record({}, [], [], [], [])
    try:
        # Written, not mapped: a full disk is an error here, and would kill the process there (SIGBUS).
        with partial.open("wb") as file, ThreadPoolExecutor(1) as disk:
            _write_header(file, shape)
            sent = disk.submit(_to_disk, file)
            with closing(_decode_all(paths, sides, preprocessing, quiet, read)) as chunks:
                for images, rows in chunks:
                    file.write(images.data)
                    record.add(rows)
                    if sent.done():  # now, beside the decoding: at the end everything would wait for it
                        sent.result()
                        sent = disk.submit(_to_disk, file)
            sent.result()
            _to_disk(file)
        with final.with_suffix(".json").open("wb") as file:
            file.write(record.to_json().encode())
            _to_disk(file)
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())  # else a rename may outlive a power failure and the content not


def _decode_all(
    paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, quiet: bool, read: _Read
) -> Generator[tuple[np.ndarray, Record]]:
    """Decode on all cores; yield chunk by chunk, in order, the images and what is recorded of them."""
    step = max(1, min(CHUNK, CHUNK_BYTES // preprocessing.image_size**2))
    chunks = [range(start, min(start + step, len(paths))) for start in range(0, len(paths), step)]
    workers = 2 * (os.cpu_count() or 1)  # two a core: while one waits for the interpreter, the other decodes
    with (
        Progress(console=Console(stderr=True), disable=quiet, transient=False) as bar,
        closing(
            in_order(
                lambda rows: _decode_chunk(rows, paths, sides, preprocessing, read),
                chunks,
                threads=workers,
                ahead=workers + 1,
            )
        ) as decoded,
    ):
        shown = bar.add_task("decoding knees, once", total=len(paths))
        for chunk in decoded:
            yield chunk
            bar.advance(shown, step)


def _decode_chunk(
    rows: range, paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, read: _Read
) -> tuple[np.ndarray, Record]:
    images = np.zeros((len(rows), preprocessing.image_size, preprocessing.image_size), np.uint8)
    record = Record({}, [UNKNOWN_PIXELS] * len(rows), [(0, 0)] * len(rows), [], [])
    drawn = None
    if paths[rows[0]].startswith(PHANTOM):
        drawn = decode_phantoms([paths[row] for row in rows], preprocessing.image_size)
    for at, row in enumerate(rows):
        try:
            image = read(row) if drawn is None else drawn[at]
            images[at], inverted = preprocessing.repaired(image, sides[row])
        except InputError as error:
            record.unreadable[row] = str(error)
            continue
        record.pixels[at], record.shapes[at] = hash_pixels(image), image.shape
        record.repaired += [row] if inverted else []
        record.films += [row] if drawn is None and both_knees.shown(image, paths[row]) else []
    return images, record


def decode_phantoms(paths: Sequence[str], size: int) -> np.ndarray:
    """Draw the phantoms with these names, uint8 N x size x size; all must be of one seed."""
    seeds, names = zip(*(path.removeprefix(PHANTOM).split("/") for path in paths), strict=True)
    knees, grades = zip(*(name.rsplit("-", 1) for name in names), strict=True)
    patients, sides = [knee[:-1] for knee in knees], [knee[-1] for knee in knees]
    return draw_phantoms(patients, sides, [int(grade) for grade in grades], seed=int(seeds[0]), size=size)
