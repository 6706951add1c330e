"""Code shared by the studies: a training that resumes, its evaluation, and a table that keeps its rows.

A study is a folder with a page, the command that repeats it, and the files that the run wrote. Research use only, not
a medical device.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from koa_lightning.checkpoint import find
from koa_lightning.config.overrides import quote
from koa_lightning.config.run_folder import DONE_FILE
from koa_lightning.metrics.comparison import compare, match
from koa_lightning.metrics.intervals import with_intervals
from koa_lightning.metrics.tables import read_predictions
from koa_lightning.sweeps.together import FOLDER as ENSEMBLE
from koa_lightning.tracking.facts import git_facts

# In a run folder: the processor seconds of each attempt, the exit code of the last one (both null until its end is
# seen: the study may die before what it started), and the commit of the first.
_FILE = "study.json"
RULES = ("", "_expected", "_median")  # of deciding on a grade: most probable, expected and rounded, median
SHOWN = ("accuracy", "quadratic_kappa", "mae")

# Of eval: plain numbers of the validation split as validation itself takes them.
PLAIN = ("split=val", "calibrated=false", "report=false", "explain=none", "tracking=none")
GAINS = ("accuracy", "quadratic_kappa")

_START, _END = "<!-- results -->", "<!-- end of results -->"


def train(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Train in a folder, or resume the training there, or do nothing if it is done.

    Args:
        folder: Of the run.
        overrides: Of `koa_lightning.train`.

    Returns:
        What `done.json` holds: the best epoch's metrics, `best_epoch`, `checkpoint`, `run_id`; `commit`, and
        `minutes_alone`, the processor time as minutes on two otherwise idle cores, None if unknown.

    Raises:
        SystemExit: The training ended with an error; with its exit code.
    """
    if not (folder / DONE_FILE).exists():
        last = folder / "checkpoints" / "last.ckpt"
        typed = [f"ckpt={last}", "quiet=true"] if last.exists() else [*overrides, f"out={folder}", "quiet=true"]
        _run("koa_lightning.train", typed, folder)
    done = json.loads((folder / DONE_FILE).read_text())
    return done | _costs(folder)


def cross_validate(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Cross-validate in a folder, or resume it, or do nothing where it is done.

    Args:
        folder: Gets a folder per fold, and `predictions.csv`, out of fold.
        overrides: Of `koa_lightning.cross_validate`.

    Returns:
        `commit` and `minutes_alone`, as of `train`.

    Raises:
        SystemExit: It ended with an error; with its exit code.
    """
    if not (folder / "predictions.csv").exists():
        _run("koa_lightning.cross_validate", [*overrides, f"out={quote(str(folder))}", "quiet=true"], folder)
    return _costs(folder)


def sweep(folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Run the trials of a sweep in a folder, or resume those that are missing, or do nothing if all are done.

    Args:
        folder: Of the sweep.
        overrides: Of `koa_lightning.train -m`, with `sweep.ensemble=true` among what they compose.

    Returns:
        `runs`, what `done.json` of each member of the ensemble holds, in their order; `commit`, and `minutes_alone` of
        all together, as of `train`.

    Raises:
        SystemExit: The sweep ended with an error, or a trial of it did; with its exit code.
    """
    facts = folder / ENSEMBLE / "ensemble.json"
    # If a trial failed, the others were still evaluated together; the sweep reports the failure again.
    if not facts.exists() or _known(folder).get("code", 0) != 0:
        _run("koa_lightning.train", ["-m", *overrides, f"sweep.folder={quote(str(folder))}", "quiet=true"], folder)
    # Not every trial's folder: one that ended as the sweep was killed has been repeated in another.
    trials = [Path(member["checkpoint"]).parents[1] for member in json.loads(facts.read_text())["members"]]
    return {"runs": [json.loads((trial / DONE_FILE).read_text()) for trial in trials], **_costs(folder)}


def evaluate(checkpoints: Sequence[Path], folder: Path, overrides: Sequence[str]) -> pd.DataFrame:
    """Grade a split, unless that was already done; return the predictions table.

    Args:
        checkpoints: One, or those of an ensemble.
        folder: Where the table goes.
        overrides: Of `koa_lightning.eval`.

    Raises:
        SystemExit: It ended with an error; with its exit code.
    """
    if not (folder / "predictions.csv").exists():
        typed = [f"ckpt={find.typed(checkpoints)}", f"out={folder}", "quiet=true", *overrides]
        _run("koa_lightning.eval", typed, folder)
    return read_predictions(folder / "predictions.csv")


def measure(predictions: pd.DataFrame) -> dict[str, float | None]:
    """Return the main metrics with the ends of their intervals by patient, flat: `accuracy`, `accuracy_low`, ...

    Each by every rule of deciding: of the most probable grade, and with the suffix `_expected` or `_median` of another.
    """
    values = with_intervals(predictions, only=[f"{name}{rule}" for rule in RULES for name in SHOWN])
    row: dict[str, float | None] = {}
    for name, found in values.items():
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


def gain(predictions: pd.DataFrame, reference: pd.DataFrame) -> dict[str, float | None]:
    """Return the gains of a run over another on the same knees, with the ends of their intervals by patient, flat."""
    row: dict[str, float | None] = {}
    for name, found in compare(*match(predictions, reference, ("run", "reference")), only=GAINS).items():
        row |= {f"{name}_gain": found.difference, f"{name}_gain_low": found.low, f"{name}_gain_high": found.high}
    return row


def keep(
    file: Path, rows: Sequence[dict[str, Any]], key: Sequence[str], order: Sequence[str] | None = None
) -> pd.DataFrame:
    """Put rows into a table in place of those with the same key; numbers are rounded to what can matter.

    Args:
        file: The CSV; it is created if it is missing.
        rows: New ones.
        key: Columns that name a row.
        order: Values of the first of them in the order in which the table shows them, others last; else new rows are
            the last ones.
    """
    table = pd.DataFrame(rows).round(4)
    if file.exists():
        old = pd.read_csv(file, dtype=dict.fromkeys(key, "str"))
        known = set(map(tuple, table[list(key)].astype(str).to_numpy().tolist()))
        table = pd.concat([old[[tuple(row) not in known for row in old[list(key)].to_numpy().tolist()]], table])
    if order:
        place = {value: i for i, value in enumerate(order)}
        table = table.sort_values(key[0], key=lambda names: names.map(place).fillna(len(place)), kind="stable")
    part = file.with_suffix(".part")
    table.to_csv(part, index=False)
    part.replace(file)
    return table


def total(costs: Sequence[float | None]) -> float | None:
    """Return the sum, None if one is not known."""
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None


def intervals(row: Mapping[str, Any], rule: str = "") -> dict[str, str]:
    """Return the metrics that pages show, with their intervals: accuracy `.598 (.560 to .633)`, and quadratic kappa.

    Args:
        row: Of a table of results.
        rule: One of `RULES`; cells of a row that was not measured by it are empty.
    """
    shown = {}
    for name in GAINS:
        cells = [row[f"{name}{rule}{end}"] for end in ("", "_low", "_high")]
        value, low, high = (f"{cell:.3f}".replace("0.", ".", 1) for cell in cells)
        shown[f"{name}{rule}".replace("_", " ")] = "" if pd.isna(cells[0]) else f"{value} ({low} to {high})"
    return shown


def show(page: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Put a table into a page, between its lines `<!-- results -->` and `<!-- end of results -->`.

    Args:
        page: In Markdown.
        rows: Cells by column.

    Raises:
        ValueError: The page has no such lines.
    """
    before, start, rest = page.read_text().partition(_START)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"{page}: has no lines {_START} and {_END} for its table")
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    page.write_text(f"{before}{start}\n\n{table}\n\n{end}{after}")


def _run(module: str, typed: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)  # before it runs: a commit made meanwhile is not the one that it began with
    trains = module.endswith((".train", ".cross_validate"))
    if trains:
        _note(folder, known, None, None)
    process = subprocess.Popen([sys.executable, "-m", module, *typed])
    try:
        code = os.waitstatus_to_exitcode((ended := os.wait4(process.pid, 0))[1])
    except KeyboardInterrupt:
        code = os.waitstatus_to_exitcode((ended := os.wait4(process.pid, 0))[1])  # it was interrupted too, and ends
    if trains:
        _note(folder, known, ended[2].ru_utime + ended[2].ru_stime, code)
    process.returncode = code
    if code != 0:
        raise SystemExit(code)


def _costs(folder: Path) -> dict[str, Any]:
    known = _known(folder)
    seconds = total(known["seconds"])  # None: it was trained from elsewhere, or ended unseen
    return {"minutes_alone": None if seconds is None else seconds / 2 / 60, "commit": known["commit"]}


def _note(folder: Path, known: Mapping[str, Any], seconds: float | None, code: int | None) -> None:
    """Write an attempt beside those before it, whole or not at all."""
    part = (folder / _FILE).with_suffix(".part")
    part.write_text(json.dumps({**known, "seconds": [*known["seconds"], seconds], "code": code}))
    part.replace(folder / _FILE)


def _known(folder: Path) -> dict[str, Any]:
    """Return what is noted of the attempts of a run; before the first, the commit that it begins with."""
    file = folder / _FILE
    return json.loads(file.read_text()) if file.exists() else {"seconds": [], "commit": git_facts()["commit"][:10]}
