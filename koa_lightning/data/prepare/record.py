"""The content of an output folder: a line in record.jsonl per picture, and the tables derived from it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from koa_lightning.config.json_files import Fields, misfit
from koa_lightning.config.kinds import Flag, Number, OneOf, Text, Whole
from koa_lightning.errors import InputError

FILE = "record.jsonl"
IMAGES = "images"
_IN_KNEES = ("path", "patient", "side", "grade", "spacing_mm", "spacing_across_mm", "spacing_from", "side_from")


@dataclass(frozen=True)
class Row:
    """One picture.

    Attributes:
        path: Below the output folder.
        patient: A keyed hash.
        patient_from: PatientID, StudyInstanceUID (if there was no id) or content (if there was neither).
        side: L, R or empty.
        side_from: The tag of the side, `split` for a split film of both knees, or empty.
        spacing_mm: Between rows; None if unknown.
        spacing_across_mm: Between columns.
        spacing_from: The tag of the spacing.
        height: Pixels.
        width: Pixels.
        source: A keyed hash of the content of the original file.
        knee: Its number among the pictures from that file, from 1.
        knees: Number of pictures from that file.
        made: The settings that change pixels.
        key: Identifies the key and the version of the names.
        burnt_in: Whether the header says that text is burnt in; assumed true if the record does not say.
    """

    path: str
    patient: str
    patient_from: str
    side: str
    side_from: str
    spacing_mm: float | None
    spacing_across_mm: float | None
    spacing_from: str
    height: int
    width: int
    source: str
    knee: int
    knees: int
    made: str
    key: str
    burnt_in: bool = True


# The record decides which files are deleted, so it may name only pictures in its own folder.
_PATH = re.compile(IMAGES + r"/\w+-[LRU]-\d{1,9}\.png")
_TEXT, _SPACING = Text(empty=True), Number(0.0, 1000.0, null=True)
_ROW = Fields(
    {
        "path": _TEXT, "patient": _TEXT, "patient_from": _TEXT, "side": OneOf("", "L", "R"), "side_from": _TEXT,
        "spacing_mm": _SPACING, "spacing_across_mm": _SPACING, "spacing_from": _TEXT, "height": Whole(1, 2**31),
        "width": Whole(1, 2**31), "source": _TEXT, "knee": Whole(1, 99), "knees": Whole(1, 99), "made": _TEXT,
        "key": _TEXT,
    },
    {"burnt_in": Flag()},
    rule=lambda row: _strange(row),
)  # fmt: skip


def _strange(row: Mapping[str, Any]) -> str:
    if not _PATH.fullmatch(row["path"]):
        return f"path is not a picture in {IMAGES}/"
    more = set(row) - {field.name for field in fields(Row)}
    return f"{sorted(more)[0][:40]!r} is not a field" if more else ""


class Record:
    """The rows of an output folder, written to disk one by one, so that a killed run loses none.

    Raises:
        InputError: The folder was made with another key or another version of the names, or its record cannot be read.
    """

    def __init__(self, output: Path, key: str) -> None:
        self.output = output
        self.rows: dict[tuple[str, int], Row] = {}  # by source and knee
        self._taken: defaultdict[tuple[str, str], set[str]] = defaultdict(set)  # paths by patient and side
        self._made: defaultdict[str, set[str]] = defaultdict(set)  # paths by source, including earlier rows
        self._stream: TextIO | None = None
        for row in self._read():
            if row.key != key and row.key.split("-")[0] == key.split("-")[0]:
                raise InputError(
                    f"output={output}: was made by a version with other patient names, so they would not agree; "
                    "name another folder"
                )
            if row.key != key:
                raise InputError(
                    f"output={output}: was made with another key, so its patients would not agree; give that key with "
                    "key_file=FILE, or name another folder"
                )
            self._keep(row)

    def has(self, source: str, made: str, burnt_in: bool) -> bool:
        """Tell whether all pictures of a source exist, were made with these settings, and are allowed.

        Args:
            source: The hash of the file.
            made: The settings that change pixels.
            burnt_in: Whether pictures are allowed whose header says that text is burnt in.
        """
        first = self.rows.get((source, 1))
        knees = [self.rows.get((source, number + 1)) for number in range(first.knees if first else 1)]
        return all(
            row is not None
            and row.made == made
            and (burnt_in or not row.burnt_in)
            and (self.output / row.path).is_file()
            for row in knees
        )

    def path_for(self, source: str, knee: int, patient: str, side: str) -> str:
        """Return the path of a picture: its previous one, or else the patient, the side and the next number."""
        before = self.rows.get((source, knee))
        if before and (before.patient, before.side) == (patient, side):
            return before.path
        taken, number = self._taken[patient, side], 1
        while (path := f"{IMAGES}/{patient}-{side or 'U'}-{number}.png") in taken:
            number += 1
        return path

    def add(self, row: Row) -> None:
        """Record a picture that is in its place."""
        if self._stream is None:
            self._stream = (self.output / FILE).open("a", encoding="utf-8")
        self._keep(row)
        self._stream.write(json.dumps(asdict(row)) + "\n")
        self._stream.flush()

    def remove_pictures(self, source: str) -> int:
        """Delete the pictures of a source, and return their number.

        `drop_missing` drops rows without a new picture. After a kill such rows have no file, and so count as missing.
        """
        files = [self.output / path for path in self._made[source]]
        there = [file for file in files if file.is_file()]
        for file in there:
            file.unlink()
        return len(there)

    def close(self) -> None:
        """Write the record again, sorted, with one line per picture."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        lines = [json.dumps(asdict(row)) + "\n" for row in sorted(self.rows.values(), key=lambda row: row.path)]
        part = self.output / f"{FILE}.part"
        with part.open("w", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(self.output / FILE)

    def drop_missing(self) -> None:
        """Drop the rows of pictures whose file is missing."""
        self.rows = {at: row for at, row in self.rows.items() if (self.output / row.path).is_file()}

    def _keep(self, row: Row) -> None:
        self.rows[row.source, row.knee] = row
        self._taken[row.patient, row.side].add(row.path)
        self._made[row.source].add(row.path)

    def _read(self) -> list[Row]:
        file = self.output / FILE
        if not file.is_file():
            return []
        lines = file.read_text(encoding="utf-8").split("\n")
        if lines[-1]:  # killed while writing: the picture is made again
            lines[-1] = ""
            file.write_text("\n".join(lines), encoding="utf-8")
        try:
            found = [json.loads(line) for line in lines if line]
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}: not a record of this version ({error}); name another output folder") from None
        for number, row in enumerate(found, 1):
            if reason := misfit(row, _ROW):
                why = f"line {number}: {reason}"
                raise InputError(f"{file}: not a record of this version ({why}); name another output folder")
        return [Row(**row) for row in found]


def write_tables(record: Record, grades: dict[tuple[str, str], int] | None) -> Counter[str]:
    """Write knees.csv, and with grades ungraded.csv for pictures without one: `data=table` accepts only graded rows.

    Args:
        record: Of the output folder.
        grades: By hashed patient and side; None: knees.csv has no column `grade`.

    Returns:
        The number of rows of `knees` and `ungraded`.
    """
    rows = pd.DataFrame([asdict(row) for row in record.rows.values()], columns=[field.name for field in fields(Row)])
    rows = rows.sort_values("path", ignore_index=True)
    counts: Counter[str] = Counter()
    (record.output / "ungraded.csv").unlink(missing_ok=True)  # of an earlier run
    if grades is not None:
        found = [grades.get(knee) for knee in zip(rows["patient"], rows["side"], strict=True)]
        rows["grade"] = pd.array(found, dtype="Int64")
        ungraded = rows["grade"].isna()
        counts["ungraded"] = int(ungraded.sum())
        if counts["ungraded"]:
            _write(rows[ungraded].drop(columns="grade"), record.output / "ungraded.csv")
        rows = rows[~ungraded]
    _write(rows, record.output / "knees.csv")
    counts["knees"] = len(rows)
    return counts


def _write(rows: pd.DataFrame, file: Path) -> None:
    columns = [column for column in _IN_KNEES if column in rows]
    part = file.with_suffix(".csv.part")
    rows[columns].to_csv(part, index=False)
    part.replace(file)
