"""A reader study in a folder: the reader's and the model's grade of each knee, one CSV per reader.

The model's grade stays here until the reader's grade is in the file, so that nobody can see it before.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from koa_lightning import DISCLAIMER
from koa_lightning.errors import InputError
from koa_lightning.metrics import predictions
from koa_lightning.metrics.intervals import with_intervals
from koa_lightning.serving.service.answers import Agreement, Knee, Metric, Unread
from koa_lightning.serving.service.problems import Problem

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Pattern for the name of a file of readings, without its ending."""
METRICS = ("quadratic_kappa", "linear_kappa", "accuracy", "mae")
COLUMNS = [
    "path", "patient", "side", "grade", "predicted", "expected_grade", "median_grade", *predictions.PROBABILITIES,
    "set_low", "set_high", "foreign", "acquisition", "refer", "content", "model", "read_at",
]  # fmt: skip
_MOST = 5000  # knees that wait for their reading; beyond that, the oldest is dropped


@dataclass(frozen=True)
class _Waiting:
    study: str
    knee: Knee
    content: str


class Studies:
    """The readings in a folder.

    Args:
        folder: The folder from `study=`.
        model: Name of the model, for the column `model`.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._lock = threading.Lock()

    def file(self, study: str) -> Path:
        """Return the file of a study's readings."""
        return self.folder / f"{study}.csv"

    def readings(self, study: str) -> pd.DataFrame:
        """Return the readings so far, one row per knee, in `COLUMNS`; `grade` is the reader's.

        Raises:
            Problem: The file was changed, and is no longer such a table.
        """
        file = self.file(study)
        if not file.exists():
            return pd.DataFrame(columns=COLUMNS)
        try:
            table = pd.read_csv(file, dtype={"path": str, "patient": str, "side": str, "content": str})
            table["grade"] = table["grade"].astype("Int64")
        except (OSError, ValueError, KeyError) as error:
            raise Problem("conflict", f"{file.name}: is not a table of readings ({type(error).__name__})") from None
        if list(table.columns) != COLUMNS:
            raise Problem("conflict", f"{file.name}: lacks the columns of a table of readings; name another file")
        return table

    def add(self, study: str, data: bytes, knee: Knee) -> Unread:
        """Withhold the model's result; return what the reader may see.

        Args:
            study: Name of the study.
            data: The file, to recognise it later.
            knee: The model's result.

        Returns:
            The picture and an id; for a knee that was read before, also its reading and the model's result.
        """
        seen = Unread(**knee.model_dump(include={"file", "error", "patient", "side", "picture"}))
        if knee.error is not None:
            return seen
        content = hashlib.blake2b(data, digest_size=16).hexdigest()
        table = self.readings(study)
        before = table[table["content"] == content]
        if len(before):
            return seen.model_copy(update={"reading": int(before["grade"].iloc[0]), "knee": knee})
        number = secrets.token_hex(8)
        with self._lock:
            self._waiting[number] = _Waiting(study, knee, content)
            while len(self._waiting) > _MOST:
                self._waiting.popitem(last=False)
        return seen.model_copy(update={"id": number})

    def record(self, study: str, number: str, grade: int) -> Knee:
        """Write a reading into the study's file; return the model's result.

        Args:
            study: Name of the study.
            number: The id of the knee, from `add`.
            grade: The reader's grade, 0 to 4.

        Raises:
            Problem: No such knee waits to be read, or the file cannot be written.
        """
        with self._lock:
            waiting = self._waiting.get(number)
            if waiting is None or waiting.study != study:
                raise Problem("not_found", "no such knee waits for a reading; drop its file again")
            row = pd.DataFrame([self._row(waiting, grade)], columns=COLUMNS)
            file = self.file(study)
            try:
                row.to_csv(file, mode="a", header=not file.exists(), index=False)
            except OSError as error:
                raise Problem("not_recorded", f"{file.name}: cannot be written to ({error.strerror})") from None
            del self._waiting[number]
        return waiting.knee

    def _row(self, waiting: _Waiting, grade: int) -> dict[str, Any]:
        knee = waiting.knee
        out, limits = knee.out_of_distribution, knee.prediction_set
        shares = dict(zip(predictions.PROBABILITIES, knee.probabilities or [], strict=True))
        return {
            "path": knee.file, "patient": knee.patient, "side": knee.side, "grade": grade, "predicted": knee.grade,
            "expected_grade": knee.expected_grade, "median_grade": knee.median_grade, **shares,
            "set_low": limits.low if limits else "", "set_high": limits.high if limits else "",
            "foreign": "" if out is None else "yes" if out.flagged else "no", "acquisition": knee.acquisition or "",
            "refer": knee.refer_why, "content": waiting.content, "model": self.model,
            "read_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def agreement(self, study: str) -> Agreement:
        """Return the agreement of reader and model, with intervals by patient; also write it as JSON.

        Args:
            study: Name of the study.

        Raises:
            Problem: Nothing was read yet, or the file holds no such readings.
        """
        table = self.readings(study)
        if table.empty:
            raise Problem("conflict", f"{self.file(study).name}: nothing has been read yet")
        try:
            found = with_intervals(table, only=METRICS)
        except InputError as error:
            raise Problem("conflict", f"{self.file(study).name}: {error}") from None
        agreement = Agreement(
            study=study,
            file=self.file(study).name,
            n_readings=len(table),
            metrics=[Metric(name=name, **asdict(found[name])) for name in METRICS],
            confusion=predictions.confusion(table).tolist(),
        )
        try:
            rows = json.dumps(agreement.model_dump(), indent=1)
            self.file(study).with_suffix(".agreement.json").write_text(rows)
        except OSError as error:
            raise Problem("not_recorded", f"{study}.agreement.json: cannot be written to ({error.strerror})") from None
        return agreement


def state(studies: Studies, study: str) -> dict[str, Any]:
    """Return the progress of a study: the name of its file, and its number of readings."""
    return {"note": DISCLAIMER, "file": studies.file(study).name, "n_readings": len(studies.readings(study))}
