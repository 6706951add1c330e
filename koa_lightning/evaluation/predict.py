"""Grade radiographs: `python -m koa_lightning.predict ckpt=FILE input=FILE|FOLDER|'GLOB'`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import reading
from koa_lightning.config import outcome
from koa_lightning.config.compose import validate
from koa_lightning.data import patterns
from koa_lightning.data.find_images import find_images, readable_name
from koa_lightning.data.one_knee import DicomError, OneKnee, Reader
from koa_lightning.data.prepare.names import find_key
from koa_lightning.errors import InputError, naming
from koa_lightning.evaluation import dicom_output, referral
from koa_lightning.evaluation.dicom_output import DicomOutput
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.predictor import Predictor, prepared
from koa_lightning.explain import cam
from koa_lightning.explain.cam import heat_maps
from koa_lightning.metrics import predictions
from koa_lightning.reporting.heat_maps import letters, overlay, with_words
from koa_lightning.tracking.find import find_checkpoint
from koa_lightning.uncertainty import conformal

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint

_LONGEST = 200  # bytes kept of a file's name, which leaves room for a suffix: file systems allow 255


def predict(cfg: DictConfig) -> dict[str, Any]:
    """Grade images; write a table, a JSON file and one overlay per image, and with `dicom=true` DICOM objects.

    Args:
        cfg: The composed config `predict`.

    Returns:
        `exit_code` (1 if a file could not be read, 130 if interrupted), `n_graded`, `n_failed`, `out`.

    Raises:
        InputError: There is no image, no readable one, or the checkpoint cannot be read.
        OSError: The disk is full; what was graded before is in `predictions.csv`.
    """
    validate(cfg)
    if cfg.films == "always":
        raise InputError("films=always: predict does not cut films (koa_lightning.prepare does); must be auto or never")
    if cfg.batch_size is None:
        raise InputError("batch_size=null: must be a whole number from 1 to 65536")

    if cfg.dicom:
        dicom_output.check(cfg)
    paths = find_images(str(cfg.input), without=Path(cfg.out))
    read = reading.read(find_checkpoint(str(cfg.ckpt), cfg.tracking.uri))
    conformal.place(cfg.alpha)
    refer_below = referral.threshold(read.record.fitted, cfg.refer_below, cfg.refer_risk)
    how = {"flip": cfg.tta == "flip", "calibrated": cfg.calibrated, "alpha": cfg.alpha, "refer_below": refer_below}
    pattern = patterns.pattern_of(dict(read.record.data_settings))
    for path in paths:  # a hostile pattern is refused now, before the work
        patterns.named(str(path), pattern)
    member = Member(read)
    net = member.net
    maps = cam.asked(cfg.explain, net) if cfg.overlays and cfg.explain.enabled else None
    if maps:
        cam.check(net, read.preprocessing.image_size, "overlays=false", **maps)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[pd.DataFrame] = []
    failed: dict[str, InputError] = {}
    if cfg.key_file:  # refused now, not for each file
        find_key(cfg.key_file, folder)
    results = DicomOutput(folder, member) if cfg.dicom else None
    reader = Reader(pattern, str(cfg.side), str(cfg.films), cfg.key_file, folder)
    stopped = False
    try:
        for start in range(0, len(paths), cfg.batch_size):
            some = paths[start : start + cfg.batch_size]
            for rows in _grade_some(member, some, reader, failed, how, maps, results):
                _append(rows, folder / "predictions.csv", first=not tables)
                tables.append(rows)
            if not cfg.quiet and len(paths) > cfg.batch_size:
                print(f"{min(start + cfg.batch_size, len(paths))} of {len(paths)}", flush=True)
    except KeyboardInterrupt:  # keep what was graded so far: it may have taken hours
        if not tables:
            raise
        stopped = True
    except OSError:
        if tables:
            print(f"{sum(map(len, tables))} of {len(paths)} graded; they are in {folder / 'predictions.csv'}")
        raise
    if not tables:
        more = f" (and {len(failed) - 1} more that cannot be read)" if len(failed) > 1 else ""
        raise InputError(f"input={cfg.input}: no readable image: {next(iter(failed.values()))}{more}")
    for error in failed.values():
        outcome.say_error(str(error))
    reasons = {name: error.reason if isinstance(error, DicomError) else str(error) for name, error in failed.items()}
    with naming(folder / "failed.json"):
        (folder / "failed.json").write_text(json.dumps(reasons, indent=1))
    rows = pd.concat(tables, ignore_index=True)
    n_left = len(paths) - len(failed) - len(rows)
    method = read.record.fitted.method if cfg.calibrated else "none"
    settings = {"calibration": method, "alpha": cfg.alpha, "refer_below": refer_below}
    _write(rows, read, settings, folder, n_left)
    for caveat in read.caveats:
        print(f"WARNING: the model carries the caveat: {caveat}")
    canonical, n_unknown = read.preprocessing.canonical_side, int((rows["side"] == "").sum())
    if canonical and n_unknown:
        print(
            f"WARNING: the model mirrors knees to {canonical}, but the side of {n_unknown} of {len(rows)} is unknown: "
            "these were not mirrored; if all images show one side, type side=L or side=R"
        )
    for line in [*reader.warnings(), *referral.warnings(read.record.fitted, rows, refer_below)]:
        print(f"WARNING: {line}")
    print(DISCLAIMER)
    left = f", {n_left} not graded because it was stopped" if stopped else ""
    print(f"{len(rows)} graded, {len(failed)} not readable{left}; written to {folder}")
    code = outcome.INTERRUPTED if stopped else outcome.PARTLY if failed else outcome.DONE
    return {"exit_code": code, "n_graded": len(rows), "n_failed": len(failed), "out": str(folder)}


def _grade_some(
    member: Member,
    paths: list[Path],
    reader: Reader,
    failed: dict[str, InputError],
    how: dict[str, Any],
    maps: dict[str, Any] | None,
    results: DicomOutput | None,
) -> list[pd.DataFrame]:
    """Grade one batch of files; those that cannot be read are added to `failed`."""
    names, knees = [], []
    for path in paths:
        try:
            if results:  # a file that no result can refer to is refused before it is graded
                results.open(path)
            knees.append(reader.read(path))
            names.append(str(path))
        except InputError as error:
            failed[readable_name(path)] = error
    if not knees:
        return []
    rows = Predictor([member]).grade(names, knees, **how)
    rows["overlay"] = _overlays(maps, member, knees, rows, reader.output, results) if maps else ""
    return [rows]


def _append(rows: pd.DataFrame, file: Path, *, first: bool) -> None:
    """Append all rows to a table or, on an error, none, so that the table always holds what was graded."""
    size = 0 if first else file.stat().st_size
    try:
        with naming(file):
            rows.to_csv(file, mode="w" if first else "a", header=first, index=False)
    except OSError:
        if file.is_file():
            os.truncate(file, size)
        raise


def _overlays(
    maps: dict[str, Any],
    member: Member,
    knees: Sequence[OneKnee],
    rows: pd.DataFrame,
    folder: Path,
    results: DicomOutput | None,
) -> list[str]:
    """Draw the overlays of a batch and write its DICOM objects, for all knees or for none; return the overlays."""
    net, images, records = member.net, prepared(member.checkpoint, knees), rows.to_dict("records")
    grades = rows["predicted"].to_numpy()  # as in the table: calibration and flipping may change a grade
    heat = heat_maps(net, net.normalise(images.to(member.device)), grades, **maps)
    overlays, made = [_place(row, folder) for row in records], list[Path]()
    try:
        restored = member.checkpoint.preprocessing.restored
        for knee, one, row, file in zip(knees, heat, records, overlays, strict=True):
            words = _words(row, member.checkpoint.caveats)
            file.parent.mkdir(exist_ok=True)
            made.append(file)
            with naming(file):
                shown = overlay(knee.image, restored(one, knee.image.shape, knee.side))  # at full size
                with_words(shown, words, letters(shown)).save(file, compress_level=4)
            if results:
                made += results.write(knee, one, row, words, file.stem)
    except BaseException:  # none of these knees will be in the table
        for each in made:
            each.unlink(missing_ok=True)
        raise
    return [str(file) for file in overlays]


def _place(row: Mapping[Any, Any], folder: Path) -> Path:
    """Return where the overlay of a knee goes; two folders may hold files of the same name."""
    tag = hashlib.blake2b(row["path"].encode(), digest_size=4).hexdigest()
    return folder / "overlays" / f"{_cut(Path(row['path']).stem)}-{tag}.png"


def _words(row: Mapping[Any, Any], caveats: Sequence[str]) -> list[str]:
    """Return the lines below a picture."""
    grade = f"grade {row['predicted']} ({row['name']})" + (f", set {row['set']}" if row["set"] else "")
    return [grade, *([row["refer"]] if row["refer"] else []), *caveats, DISCLAIMER]


def _cut(name: str) -> str:
    """Return a name, cut to `_LONGEST` bytes."""
    return name.encode()[:_LONGEST].decode(errors="ignore")


def _write(rows: pd.DataFrame, read: Checkpoint, settings: dict[str, Any], folder: Path, n_left: int) -> None:
    with naming(folder):
        predictions.write(rows, folder)
    knees = [
        {
            "path": row["path"],
            "grade": int(row["predicted"]),
            "name": row["name"],
            "expected_grade": round(float(row["expected_grade"]), 4),
            "median_grade": int(row["median_grade"]),
            "probabilities": [round(float(row[column]), 6) for column in predictions.PROBABILITIES],
            **referral.as_json(row),
            "overlay": row["overlay"],
        }
        for row in rows.to_dict("records")
    ]
    note = {"note": DISCLAIMER, "marks": read.caveats, "checkpoint": str(read.path), "not_graded": n_left, **settings}
    with naming(folder / "predictions.json"):
        (folder / "predictions.json").write_text(json.dumps({**note, "knees": knees}, indent=1))
    for knee in knees[:20]:
        shares = " ".join(f"{p:.2f}" for p in knee["probabilities"])
        said = "".join(f"; {words}" for words in (f"set {knee['set']}" if knee["set"] else "", knee["refer"]) if words)
        print(
            f"{knee['path']}: grade {knee['grade']} {knee['name']} (expected {knee['expected_grade']:.2f}, "
            f"median {knee['median_grade']}; {shares}){said}"
        )
