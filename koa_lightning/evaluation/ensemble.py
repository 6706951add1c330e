"""Evaluate several checkpoints as one grader: their averaged probabilities, and each member beside the ensemble.

Each member grades images with the preprocessing of its own training. Its probabilities are first calibrated by its own
checkpoint, then averaged. A member's calibration was fitted on knees that it was not trained on. For the average there
are no such knees if the members come from a cross-validation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from koa_lightning.checkpoint import find, reading, training_overlap
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.data import manifest as mf
from koa_lightning.data.datamodule import ALL, KneeDataModule
from koa_lightning.data.dataset import KneeDataset
from koa_lightning.evaluation import results
from koa_lightning.evaluation.data import data_for
from koa_lightning.evaluation.grading import Member, average
from koa_lightning.evaluation.predictor import check_grade_names
from koa_lightning.evaluation.results import say, table_metrics
from koa_lightning.evaluation.settings import Settings
from koa_lightning.metrics import intervals
from koa_lightning.metrics import predictions as table
from koa_lightning.reporting import figures, provenance, saving, terminal
from koa_lightning.reporting.report import page
from koa_lightning.tracking.begin import caveat_tags, closing, open_run

if TYPE_CHECKING:
    from koa_lightning.evaluation.results import Evaluation

_SHOWN = {
    "accuracy": "accuracy", "quadratic_kappa": "kappa", "mae": "mae", "auroc_oa": "auroc_oa", "ece": "ece",
}  # fmt: skip


def evaluate(cfg: DictConfig, settings: Settings, files: Sequence[Path]) -> dict[str, Any]:
    """Evaluate an ensemble as `koa_lightning.eval` evaluates a checkpoint; return its metrics and `out`.

    Args:
        cfg: The config `eval`, for the data and the run.
        settings: The other keys of the config.
        files: The members' checkpoints.

    Raises:
        InputError: The members do not match, or every member was trained on all of these knees.
    """
    reads, place = [reading.read(file) for file in files], f"eval/{settings.split}"
    predictions, tables, facts = grade(settings, reads, [data_for(cfg, read) for read in reads])
    run = open_run(cfg.tracking, settings.out, f"eval ensemble of {len(files)} on {facts['data']} {settings.split}")
    with closing(run):
        evaluates = ", ".join(entry["run_id"] or entry["checkpoint"] for entry in facts["members"])
        tags = {"evaluates": evaluates, "tta": settings.tta, "split": settings.split, "data": facts["data"]}
        run.log_tags({**tags, "data.fingerprint": facts["fingerprint"], **caveat_tags(facts["marks"])})
        metrics, found = _evaluate(settings, predictions, tables, facts, run)
        run.log_artifact(_describe(settings, reads, predictions, facts, run), place)
        if settings.report:
            page.at_end(settings.out, settings.audit, run, place)
    _say(facts, metrics)
    say(settings.split, metrics, found, facts["marks"], settings.out)
    return {**metrics, "out": str(settings.out)}


def _evaluate(
    settings: Settings, predictions: pd.DataFrame, tables: dict[str, pd.DataFrame], facts: dict[str, Any], run: Any
) -> tuple[dict[str, Any], Evaluation]:
    folder = settings.out
    metrics = table_metrics(predictions)
    found = results.evaluate_table(settings, predictions, folder)
    files = [*table.write(predictions, folder), *write(facts, tables, metrics, folder)]
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    title = f"{facts['data']}, {settings.split} split, ensemble of {len(tables)}"
    figure = figures.confusion_matrix_figure(table.confusion(predictions), title, facts["marks"])
    files += [folder / "metrics.json", *found.files, *saving.save(figure, folder / "confusion_matrix")]
    numbers = {**results.to_log(found), **{name: value for name, value in metrics.items() if value is not None}}
    run.log_metrics({f"{settings.logged_split}/{name}": value for name, value in numbers.items()}, 0)
    for file in files:
        run.log_artifact(file, f"eval/{settings.split}")
    return metrics, found


def _describe(
    settings: Settings, reads: Sequence[Checkpoint], predictions: pd.DataFrame, facts: dict[str, Any], run: Any
) -> Path:
    """Write what was evaluated, and with which models, for the report; return the file."""
    about = provenance.describe(
        kind="ensemble",
        models=[provenance.of_model(read, entry["name"]) for read, entry in zip(reads, facts["members"], strict=True)],
        predictions=predictions,
        data={
            "name": facts["data"],
            "part": settings.split,
            "fingerprint": facts["fingerprint"],
            "split": facts["split"],
            "n_trained_on": None if facts["training_unknown"] else 0,
        },
        caveats=facts["marks"],
        settings={"tta": settings.tta, "calibrated": settings.calibrated},
        tracking={"run_id": run.run_id, "uri": run.uri},
    )
    return provenance.write(about, settings.out)


def grade(
    settings: Settings, reads: Sequence[Checkpoint], modules: Sequence[KneeDataModule]
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame], dict[str, Any]]:
    """Grade the split with every member, and average.

    Args:
        settings: The settings of the evaluation.
        reads: The members.
        modules: The data of each member, see `data_for`.

    Returns:
        The ensemble's predictions, each member's predictions by name, and facts: `members` (per member a mapping: name,
        checkpoint, run_id, n_knees), `said`, `calibrated`, `out_of_fold`, `marks`, `data`, `fingerprint`.

    Raises:
        InputError: The members do not match, or every member was trained on all of these knees; see also
            `results.check`.
    """
    names = find.names([read.path for read in reads])
    check_grade_names(reads)
    split, own = settings.split, settings.given is None
    knees = (
        training_overlap.of_their_own(split, modules, names)
        if settings.given is None
        else training_overlap.of_other_data(split, settings.given, modules, reads, names)
    )
    results.check(settings, knees.rows.take(np.flatnonzero(knees.allowed.any(axis=0))))
    print(knees.said, flush=True)
    tables, caveats = {}, []
    for number, (name, read, module) in enumerate(zip(names, reads, modules, strict=True)):
        if not settings.quiet:
            print(f"member {number + 1} of {len(reads)}: {name}, {int(knees.allowed[number].sum())} knees", flush=True)
        tables[name] = _grade_one(settings, read, module, knees.rows, knees.allowed[number])
        caveats += [*read.caveats, *module.caveats]
    facts = {
        "members": [
            {"name": name, "checkpoint": str(read.path), "run_id": read.record.tracking.run_id or "",
             "n_knees": len(tables[name])}
            for name, read in zip(names, reads, strict=True)
        ],
        "said": knees.said,
        "calibrated": _calibrated(settings.calibrated, reads),
        "out_of_fold": bool((knees.allowed.sum(axis=0) == 1).all()),
        "training_unknown": knees.unknown,
        "marks": list(dict.fromkeys(caveats)),
        "data": modules[0].name,
        "split": modules[0].split_name if not own else reads[0].record.data.split or "",
        "fingerprint": mf.fingerprint(modules[0].tables[ALL], (ALL,)),
    }  # fmt: skip
    return average(list(tables.values())), tables, facts


def _calibrated(calibrated: bool, reads: Sequence[Checkpoint]) -> str:
    """Return in words whether probabilities were calibrated before averaging, and why."""
    fitted = [read.record.fitted.method != "none" for read in reads]
    if not calibrated:
        return "not at all (calibrated=false)"
    if not any(fitted):
        return "not at all: no member has a calibration"
    return (
        f"before averaging: {sum(fitted)} of {len(fitted)} members by their own checkpoints, each fitted on its own "
        "validation split; to calibrate the average, no knees are left that no member was trained on"
    )


def _grade_one(
    settings: Settings, read: Checkpoint, module: KneeDataModule, rows: pd.DataFrame, allowed: np.ndarray
) -> pd.DataFrame:
    """Return one member's predictions on the knees that it may be evaluated on, with its own preprocessing."""
    module.source = lambda: rows.assign(split="")  # one cache for all members of the same preprocessing
    module.prepare((ALL,))
    data, knees = module.datasets[ALL], module.tables[ALL]
    chosen = np.flatnonzero(knees["path"].isin(rows.loc[allowed, "path"]).to_numpy())
    module.datasets["own"] = KneeDataset(data.images, data.rows[chosen], data.grades[chosen], data.shapes[chosen])
    module.tables["own"] = knees.iloc[chosen].reset_index(drop=True)
    return Member(read).grade_split(module, "own", flip=settings.flip, calibrated=settings.calibrated).table


def write(facts: dict[str, Any], tables: dict[str, pd.DataFrame], metrics: dict[str, Any], folder: Path) -> list[Path]:
    """Write ensemble.json, ensemble.csv (one row per member and one for the ensemble), and each member's predictions.

    Args:
        facts: See `grade`; the members' metrics are added.
        tables: The members' predictions.
        metrics: The ensemble's metrics.
        folder: Where the files go.
    """
    (folder / "members").mkdir(exist_ok=True)
    files = [folder / "ensemble.json", folder / "ensemble.csv", folder / "members"]
    for number, (entry, predictions) in enumerate(zip(facts["members"], tables.values(), strict=True)):
        entry["metrics"] = table_metrics(predictions)
        entry["intervals"] = intervals.to_json(intervals.with_intervals(predictions, only=tuple(_SHOWN)))
        predictions.to_parquet(folder / "members" / f"{number}.parquet")
    files[0].write_text(json.dumps({**facts, "ensemble": metrics}, indent=1))
    rows = [{"name": entry["name"], **entry["metrics"]} for entry in facts["members"]]
    pd.DataFrame([*rows, {"name": "ensemble", **metrics}]).to_csv(files[1], index=False)
    return files


def _say(facts: dict[str, Any], metrics: dict[str, Any]) -> None:
    def of(names: Sequence[str]) -> Table:
        shown = Table()
        for head in ("", "knees", *_SHOWN.values()):
            shown.add_column(head, justify="right" if head else "left")
        for name, entry in zip(names, facts["members"], strict=True):
            shown.add_row(name, str(entry["n_knees"]), *(_number(entry["metrics"][key]) for key in _SHOWN))
        shown.add_section()
        shown.add_row("ensemble", str(metrics["n_knees"]), *(_number(metrics[key]) for key in _SHOWN), style="bold")
        return shown

    members = [entry["name"] for entry in facts["members"]]
    terminal.show(Console(), of, members, f"members and ensemble: {facts['said']}")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
