"""DICOM and other images to pseudonymous PNG: `python -m koa_lightning.prepare input=FOLDER output=FOLDER`."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import validate
from koa_lightning.config.outcome import DONE, PARTLY, say_error
from koa_lightning.config.places import user_path
from koa_lightning.data.find_images import find_images
from koa_lightning.data.prepare.grades import read_grades
from koa_lightning.data.prepare.names import find_key
from koa_lightning.data.prepare.record import Record, write_tables
from koa_lightning.data.prepare.run import Outcome, Settings, prepare_files
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    from koa_lightning.data.prepare.names import Key


def prepare(cfg: DictConfig) -> dict[str, Any]:
    """Write 16-bit PNG files, `knees.csv`, `record.jsonl` and `failed.json`; existing pictures are not made again.

    Args:
        cfg: The config `prepare`, composed.

    Returns:
        `exit_code` (1 if a file was omitted), `n_made`, `n_there`, `n_failed`, `n_knees`, `out`.

    Raises:
        InputError: There is no readable image, or the key, grade table or folder is wrong.
    """
    validate(cfg)

    folder = Path(cfg.out if cfg.output else ".")  # access `output`, so that a missing one is reported
    _check_folders(str(cfg.input), folder)
    paths = find_images(str(cfg.input))
    key = find_key(cfg.key_file, folder)
    grades = read_grades(cfg.grades, key) if cfg.grades else None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            settings = Settings(cfg.spacing, cfg.films, cfg.crop, cfg.burnt_in)
            return _prepare(str(cfg.input), paths, folder, key, settings, grades, cfg.quiet)
    except Timeout:
        raise InputError(f"output={folder}: another run is writing to it; wait, or name another folder") from None


def _check_folders(where: str, folder: Path) -> None:
    source = user_path(where)
    if source.is_dir() and folder.resolve().is_relative_to(source.resolve()):
        raise InputError(f"output={folder}: lies in the input, so the next run would read it; name another folder")


def _prepare(
    where: str,
    paths: list[Path],
    folder: Path,
    key: Key,
    settings: Settings,
    grades: dict[tuple[str, str], int] | None,
    quiet: bool,
) -> dict[str, Any]:
    record = Record(folder, key.mark)
    outcome = Outcome()
    try:
        prepare_files(paths, record, key, settings, outcome, quiet)
    except KeyboardInterrupt:
        print(f"{outcome.made} pictures have been made; type the same command to continue", file=sys.stderr)
        raise
    finally:  # finished pictures are kept and usable
        for line in outcome.messages:
            say_error(line)
        record.drop_missing()
        record.close()
        counts = write_tables(record, grades)
        (folder / "failed.json").write_text(json.dumps(outcome.failed, indent=1))
    if not record.rows:
        more = f" (and {len(outcome.messages) - 1} more)" if len(outcome.messages) > 1 else ""
        raise InputError(f"input={where}: no image is usable; see above{more}")
    _say(folder, record, outcome, counts, key, grades is not None)
    return {
        "exit_code": PARTLY if outcome.failed else DONE,
        "n_made": outcome.made,
        "n_there": outcome.there,
        "n_failed": len(outcome.failed),
        "n_knees": counts["knees"],
        "out": str(folder),
    }


def _say(folder: Path, record: Record, outcome: Outcome, counts: Counter[str], key: Key, graded: bool) -> None:
    rows = record.rows.values()
    for n, words in (
        (outcome.twins, "files have the same content as another and were used once"),
        (outcome.strangers, "pictures in the output come from files outside this input; they are kept"),
        (outcome.removed, "pictures of an earlier run were deleted, as their files are now omitted"),
        (sum(row.patient_from == "content" for row in rows), "pictures have no patient: each counts as its own"),
        (sum(row.side == "" for row in rows), "pictures have no side"),
        (sum(row.spacing_mm is None for row in rows), "pictures have no pixel spacing"),
        (counts["ungraded"], "pictures are missing from the table of grades; see ungraded.csv"),
    ):
        if n:
            print(f"WARNING: {n} {words}", file=sys.stderr)
    if outcome.notes:
        n = len(outcome.notes)
        print(f"WARNING: {n} elements cannot be read and count as empty, e.g. {outcome.notes[0]}", file=sys.stderr)
    patients = len({row.patient for row in rows})
    print(f"{outcome.made} made, {outcome.there} already there, {len(outcome.failed)} omitted")
    print(f"{len(rows)} pictures of {patients} patients, named by the key {key.origin}")
    table = shlex.quote(f"data.table={folder / 'knees.csv'}")
    print("train on them: data=table " + table if graded else f"grade them: input={shlex.quote(str(folder))}")
    print(f"{DISCLAIMER}; text in the pixels is not removed: check the pictures before you share them")
    print(f"written to {folder}", flush=True)
