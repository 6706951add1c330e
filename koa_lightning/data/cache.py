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

VERSION = 6  # raise it when decoding, fitting, the phantom or the record changes, to invalidate old files
CHUNK = 64  # knees per task: enough for vectorised drawing of phantoms, few enough for a smooth bar
CHUNK_BYTES = 1 << 23  # ... and at most this many bytes, as large images would fill the memory
UNKNOWN_PIXELS = "0" * 32  # replaces the pixel hash of an unreadable image


@dataclass(frozen=True)
class Cache:
    """The decoded knees.

    Attributes:
        images: uint8 N x H x W, memory-mapped, read only.
        unreadable: The unreadable rows, each with its reason.
        path: File of the images.
        built: Whether this call decoded them.
        pixels: N hashes (`hash_pixels`, 16 bytes, hex) of the decoded, unprocessed pixels; `UNKNOWN_PIXELS` for
            an unreadable image.
        shapes: int64 N x 2, rows and columns of each image before it was fitted; 0 for an unreadable image.
        repaired: The rows whose images were inverted (`Preprocessing.fix_polarity`).
        films: The rows of pictures that show both knees, for which a single grade says little.
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
    """Return the cache folder: `KOA_CACHE` if set, otherwise the user's own."""
    return Path(os.environ.get("KOA_CACHE") or user_cache_dir("koa_lightning"))


def key(hashes: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing) -> str:
    """Return the name of a cache file, from content, order, side (only where it matters) and preprocessing."""
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
    """Return the cache of these knees; build it first if it does not exist.

    A file under its final name is always complete: it is written under another name and renamed. A lock, which the
    system frees if its holder dies, lets one run build while others wait. Unreadable images are retried each time, as
    they may be readable by now; if so, the cache is rebuilt under its own new name.

    Args:
        paths: Of the images; only names if `read` provides the pixels.
        hashes: Of their content.
        sides: L, R or empty.
        preprocessing: Applied to each image.
        folder: Of the cache; None: the user's.
        quiet: No progress bar.
        read: Returns the pixels of a row (uint8 H x W) without a file; None: the files at `paths` are read.

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
    except OSError as error:  # from the cache's own files: faulty images raise InputError
        why = error.strerror or one_line(error)
        raise InputError(f"{where}: the cache cannot be written or read ({why}); set data.cache_dir=DIR") from error
    if opened is None:
        raise InputError(f"{final}: changed during the build; delete it and try again")
    return replace(opened, built=built)


def _newest(final: Path, shape: tuple[int, int, int], read: _Read) -> Cache | None:
    """Return the newest edition of the cache; None if it is incomplete or outdated."""
    there = editions(final)
    return _open(there[0], shape, read) if there else None


def _open(final: Path, shape: tuple[int, int, int], read: _Read) -> Cache | None:
    """Return the cache; None if it is missing, incomplete or outdated."""
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
        return None  # shorter than its header says: a partial copy or a failed disk
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
        leftover.unlink()  # from a killed build: we hold the lock, so nobody writes it
    partial = final.parent / f"{final.stem}.{socket.gethostname()}-{os.getpid()}.part"
    needed, free = math.prod(shape), shutil.disk_usage(final.parent).free
    if needed > free:  # report it now, not after an hour of decoding
        raise OSError(errno.ENOSPC, f"it needs {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free")
    record = Record({}, [], [], [], [])
    try:
        # Written, not mapped: a full disk raises an error when writing, but kills the process when mapped (SIGBUS).
        with partial.open("wb") as file, ThreadPoolExecutor(1) as disk:
            _write_header(file, shape)
            sent = disk.submit(_to_disk, file)
            with closing(_decode_all(paths, sides, preprocessing, quiet, read)) as chunks:
                for images, rows in chunks:
                    file.write(images.data)
                    record.add(rows)
                    if sent.done():  # flush during decoding: at the end everything would wait for it
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
    os.fsync(file.fileno())  # else a rename could survive a power failure without the content


def _decode_all(
    paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing, quiet: bool, read: _Read
) -> Generator[tuple[np.ndarray, Record]]:
    """Decode on all cores; yield chunks in order, each with its images and their record."""
    step = max(1, min(CHUNK, CHUNK_BYTES // preprocessing.image_size**2))
    chunks = [range(start, min(start + step, len(paths))) for start in range(0, len(paths), step)]
    workers = 2 * (os.cpu_count() or 1)  # two per core: while one waits for the interpreter, the other decodes
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
    """Draw the phantoms with these names, uint8 N x size x size; all must have the same seed."""
    seeds, names = zip(*(path.removeprefix(PHANTOM).split("/") for path in paths), strict=True)
    knees, grades = zip(*(name.rsplit("-", 1) for name in names), strict=True)
    patients, sides = [knee[:-1] for knee in knees], [knee[-1] for knee in knees]
    return draw_phantoms(patients, sides, [int(grade) for grade in grades], seed=int(seeds[0]), size=size)
