"""All files of a folder, on all cores: read, decoded and written under a pseudonym."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from koa_lightning.data.dicom.header import Header, read_header
from koa_lightning.data.images import decode, is_dicom, read_bytes
from koa_lightning.data.parallel import in_order
from koa_lightning.data.prepare import failures
from koa_lightning.data.prepare.names import Key
from koa_lightning.data.prepare.pixels import joints, resample, write_png
from koa_lightning.data.prepare.record import IMAGES, Record, Row
from koa_lightning.errors import InputError

VERSION = 3  # raise it when pixels change, so that earlier outputs are made again


@dataclass(frozen=True)
class Settings:
    """Settings that change the pictures.

    Attributes:
        spacing: mm, to resample to; None: pixels stay unchanged.
        films: Of both knees; see `koa_lightning.data.prepare.pixels.joints`.
        crop: Films of one knee; see `joints`.
        burnt_in: Accept pictures whose header says that text is burnt in.
    """

    spacing: float | None
    films: str
    crop: str
    burnt_in: bool

    @property
    def made(self) -> str:
        """Description in the record of pixels made with these settings."""
        return f"version {VERSION}, spacing {self.spacing or 'as it was'}, films {self.films}, crop {self.crop}"


@dataclass
class Outcome:
    """The outcome for the files of a run.

    Attributes:
        made: Pictures written now.
        there: Files whose pictures already existed.
        twins: Files with the same content as another, which was used once.
        strangers: Pictures of files that are not (or no longer) in the input.
        removed: Pictures of an earlier run whose files are now omitted.
        notes: Unreadable elements, treated as empty, with the file's name: for the terminal only.
        messages: Of the omitted files, with their names: for the terminal only.
        failed: The same for the output: the number in the sorted order from 1, the source, the reason.
    """

    made: int = 0
    there: int = 0
    twins: int = 0
    strangers: int = 0
    removed: int = 0
    notes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    failed: list[dict[str, int | str]] = field(default_factory=list)


@dataclass
class _Knee:
    side: str
    shape: tuple[int, int]
    part: Path


@dataclass
class _Read:
    """A thread's result for a file: its knees, still under temporary names, or why there are none."""

    source: str = ""
    header: Header = field(default_factory=Header)
    knees: list[_Knee] = field(default_factory=list)
    message: str = ""


def prepare_files(
    paths: Sequence[Path], record: Record, key: Key, settings: Settings, outcome: Outcome, quiet: bool
) -> None:
    """Make the missing pictures and fill in `outcome`; an interrupted run has filled in part of it.

    A picture is written under a temporary name and gets its final one once its row is in the record; the next run
    remakes a row without its picture. Pictures of the same file from an earlier run are deleted first, even if the
    file is now omitted.

    Args:
        paths: Sorted; pictures are numbered in this order.
        record: Of the output folder; rows are added to it.
        key: For the names.
        settings: What changes the pictures.
        outcome: To be filled.
        quiet: No progress bar.
    """
    folder = record.output / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    _remove_parts(folder)
    seen: set[str] = set()
    try:
        with (
            Progress(console=Console(stderr=True), disable=quiet) as bar,
            closing(_read_all(paths, record, key, settings)) as files,
        ):
            shown = bar.add_task("preparing files", total=len(paths))
            for number, (path, read) in enumerate(zip(paths, files, strict=True), 1):
                if read.message:
                    if read.source not in seen:
                        outcome.removed += record.remove_pictures(read.source)
                    outcome.messages.append(read.message)
                    why = failures.reason(read.message, str(path))
                    outcome.failed.append({"number": number, "source": read.source, "reason": why})
                elif read.source in seen:
                    outcome.twins += 1
                elif not read.knees:
                    outcome.there += 1
                else:
                    outcome.made += _put(read, record, key, settings)
                    outcome.notes += [f"{note} of {path}" for note in read.header.notes]
                seen.add(read.source)
                bar.advance(shown)
        outcome.strangers = sum(row.source not in seen for row in record.rows.values())
    finally:
        _remove_parts(folder)


def _remove_parts(folder: Path) -> None:
    for part in folder.glob("*.part"):  # of twins, and of killed runs
        part.unlink()


def _read_all(paths: Sequence[Path], record: Record, key: Key, settings: Settings) -> Generator[_Read]:
    """Yield the outcome of each file, in order."""
    threads = os.cpu_count() or 1
    numbered = enumerate(paths, 1)
    # A slow file must not stop the others; pictures wait on the disk.
    return in_order(lambda each: _read(each[1], each[0], record, key, settings), numbered, ahead=4 * threads)


def _read(path: Path, number: int, record: Record, key: Key, settings: Settings) -> _Read:
    name, read = str(path), _Read()
    try:
        data = read_bytes(path)
        read.source = key.source(data)
        if record.has(read.source, settings.made, settings.burnt_in):
            return read
        if is_dicom(data, name):
            read.header = read_header(data, name, settings.burnt_in)
        image = np.asarray(decode(data, name, np.uint16))
        if settings.spacing is not None:
            image = resample(image, read.header.spacing, settings.spacing, name)
        for side, pixels in joints(image, read.header, settings.films, settings.crop):
            part = record.output / IMAGES / f"{number}-{len(read.knees) + 1}.part"
            write_png(pixels, part)
            read.knees.append(_Knee(side, (pixels.shape[0], pixels.shape[1]), part))
    except InputError as error:
        return _Read(read.source, message=str(error))
    return read


def _put(read: _Read, record: Record, key: Key, settings: Settings) -> int:
    """Give the pictures of a file their names and record them; return their number."""
    header = read.header
    patient = key.patient(header.patient or read.source)
    spacing = header.spacing
    if spacing is not None and settings.spacing is not None:
        spacing = (settings.spacing, settings.spacing)
    record.remove_pictures(read.source)  # with other sides or numbers of knees some would remain
    for number, knee in enumerate(read.knees, 1):
        path = record.path_for(read.source, number, patient, knee.side)
        (record.output / path).unlink(missing_ok=True)  # else a killed run could leave old pixels under the new row
        row = Row(
            path=path,
            patient=patient,
            patient_from=header.patient_from or "content",
            side=knee.side,
            side_from=header.side_from if knee.side == header.side else "split",
            spacing_mm=spacing[0] if spacing else None,
            spacing_across_mm=spacing[1] if spacing else None,
            spacing_from=header.spacing_from,
            height=knee.shape[0],
            width=knee.shape[1],
            source=read.source,
            knee=number,
            knees=len(read.knees),
            made=settings.made,
            key=key.mark,
            burnt_in=header.burnt_in,
        )
        record.add(row)
        knee.part.replace(record.output / path)
    return len(read.knees)
