"""Undelivered entries on disk: a file of JSON lines in the run folder."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from koa_lightning.config.addresses import public
from koa_lightning.errors import InputError

Entry = dict[str, Any]
"""One write to a run: `op` names the kind (a key of `deliver.HANDLERS`), the rest belongs to the kind."""

FILE = "unsent.jsonl"
_LONGEST_HEADER = 10_000
_log = logging.getLogger(__name__)


class Spool:
    """The entries of one run that are not in MLflow yet, oldest first.

    The first line of the file names the run and its store, so the file alone is enough to send its entries.

    Attributes:
        path: The file; it exists only while it holds entries.
        run_id: MLflow's id of the run.
        uri: MLflow's tracking URI, without a password.
        lock: Hold it from reading to replacing, so that a training and a `resend` do not interfere.
    """

    def __init__(self, folder: Path, run_id: str, uri: str) -> None:
        self.path = folder.absolute() / FILE
        self.run_id = run_id
        self.uri = public(uri)
        self.lock = FileLock(self.path.with_suffix(".lock"))

    @classmethod
    def load(cls, path: Path) -> Spool:
        """Open a file that another process left.

        Raises:
            InputError: When its first line does not name a run.
        """
        if not path.is_file():  # reading from a pipe would block for ever
            raise InputError(f"{path}: is not a file; only files that a training left can be sent")
        with path.open("rb") as file:
            header = _parse(file.readline(_LONGEST_HEADER).decode(errors="replace")) or {}
        if header.get("op") != "run" or not all(isinstance(header.get(key), str) for key in ("run_id", "uri")):
            raise InputError(f"{path}: the first line names no run; only files that a training left can be sent")
        return cls(path.parent, header["run_id"], header["uri"])

    def __bool__(self) -> bool:
        return self.path.exists()

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries and wait until the disk has them.

        Raises:
            OSError: When the disk refuses them; the file is then unchanged.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock:
            before = self.path.stat().st_size if self else 0
            header = [] if before else [{"op": "run", "run_id": self.run_id, "uri": self.uri}]
            # The next line must not join a line that an earlier process left unfinished.
            text = ("\n" if before and not self._ends_in_newline() else "") + _lines([*header, *entries])
            try:
                _write(self.path, text, os.O_APPEND)
            except OSError:
                if self:
                    os.truncate(self.path, before)
                raise

    def read(self) -> list[Entry]:
        """Return the entries; skip a line that a crash left unfinished, with a warning."""
        if not self:
            return []
        with self.lock:
            lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[1:]
        entries = []
        for number, line in enumerate(lines, start=2):
            entry = _parse(line)
            if entry is not None:
                entries.append(entry)
            elif line.strip():
                _log.warning("%s, line %d: unfinished, omitted", self.path, number)
        return entries

    def replace(self, entries: Sequence[Entry]) -> None:
        """Keep only these entries; without any, delete the file."""
        with self.lock:
            self.path.unlink(missing_ok=True) if not entries else self._rewrite(entries)

    def _rewrite(self, entries: Sequence[Entry]) -> None:
        fresh = self.path.with_suffix(".tmp")
        _write(fresh, _lines([{"op": "run", "run_id": self.run_id, "uri": self.uri}, *entries]), os.O_TRUNC)
        fresh.replace(self.path)

    def _ends_in_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"


def summary(entries: Sequence[Entry]) -> list[str]:
    """Summarise entries, e.g. `["3 metrics", "1 status", "artifact checkpoints/best.ckpt"]`."""
    artifacts = [
        f"artifact {'/'.join(filter(None, [entry['folder'], Path(entry['local']).name]))}"
        for entry in entries
        if entry["op"] == "artifact"
    ]
    counts = Counter(entry["op"] for entry in entries if entry["op"] != "artifact")
    return [f"{count} {op}" for op, count in counts.items()] + artifacts


def _lines(entries: Sequence[Entry]) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def _parse(line: str) -> Entry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, thousands of brackets
        return None
    return entry if isinstance(entry, dict) else None


def _write(path: Path, text: str, mode: int) -> None:
    # 0o600: other users of the machine may not read what a run logs.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
