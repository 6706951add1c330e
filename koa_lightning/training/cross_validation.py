"""The folds of a cross-validation: train each, grade the knees it did not see, and pool all predictions."""

from __future__ import annotations

import contextlib
import io
import json
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import reading
from koa_lightning.config import gpus, json_files, outcome, run_files
from koa_lightning.config.compose import plain
from koa_lightning.config.places import replace_text
from koa_lightning.config.run_folder import DONE_FILE, is_main, remember
from koa_lightning.data import manifest as mf
from koa_lightning.data.build import data_module, source_of
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.results import split_metrics, table_metrics
from koa_lightning.metrics import constant
from koa_lightning.metrics import predictions as table
from koa_lightning.metrics.graded import of_table
from koa_lightning.reporting import figures, saving
from koa_lightning.training import build
from koa_lightning.training.run import train

FOLD_FILE = "fold.json"
BETWEEN = ("mean", "sd", "min", "max")

_RESTART = "start again: fresh=true"


def work(task: dict[str, Any]) -> int:
    """Train and grade one fold, in a process of its own; return its exit code.

    Args:
        task: `config` (that of `train`, plain, with its targets), and `overrides` to resume it by hand, or None.
    """
    cfg = OmegaConf.create(task["config"])
    print(f"fold {cfg.data.fold} in {cfg.out}", flush=True)
    try:
        with gpus.taken(str(cfg.trainer.accelerator), cfg.trainer.devices):
            return train_fold(cfg, task["overrides"])
    except Exception as error:
        line = outcome.one_line(error)
        if line is None:
            traceback.print_exc()
            return outcome.PARTLY
        outcome.say_error(f"fold {cfg.data.fold}: {line}")
        return outcome.code_of(error)


def train_fold(cfg: DictConfig, overrides: list[str] | None = None) -> int:
    """Train one fold, from its last checkpoint if there is one, and grade its validation split; return the exit code.

    Args:
        cfg: The config `train` of this fold; `out` is its folder.
        overrides: Overrides for `train`, stored so that `train ckpt=...` can resume the fold.
    """
    folder = Path(cfg.out)
    last = folder / "checkpoints" / "last.ckpt"
    if not (folder / DONE_FILE).exists():
        cfg.ckpt = str(last) if last.exists() else None
        if overrides is not None:
            remember(folder, overrides)
        code = int(train(cfg)["exit_code"])
        if code != outcome.DONE:
            return code
    if is_main() and not is_done(folder):
        # both splits, as in training, so that the cache is the same
        data = data_module(cfg.data, cfg.seed, quiet=True).prepare(("train", "val"))
        _grade(folder, data, build.device_for(cfg.trainer.accelerator))
    return outcome.DONE


def is_done(folder: Path) -> bool:
    """Return whether a fold is trained, and its knees were graded after that."""
    done, graded = folder / DONE_FILE, folder / FOLD_FILE
    return done.exists() and graded.exists() and graded.stat().st_mtime_ns >= done.stat().st_mtime_ns


def _grade(folder: Path, data: KneeDataModule, device: torch.device) -> None:
    """Grade the validation split with the best checkpoint; write the predictions, then the results of the fold."""
    read = reading.read(folder / "checkpoints" / "best.ckpt")
    if data.fingerprint != read.record.data.fingerprint:
        raise InputError(f"{folder}: the data has changed since this fold was trained; start again: fresh=true")
    member = Member(read, device)
    graded = member.grade_split(data, "val", calibrated=False)
    table.write(graded.table, folder)
    done = json_files.read(folder / DONE_FILE, run_files.DONE, _RESTART)
    record = {
        "metrics": split_metrics(graded, read.record),
        "best_epoch": done["best_epoch"],
        "run_id": done["run_id"],
        "marks": read.caveats,
        "weights": read.record.weights,
        "split": read.record.data.split or "unknown",
    }
    replace_text(folder / FOLD_FILE, json.dumps(record, indent=1))


def check(cfg: DictConfig) -> int:
    """Check that every fold can be trained, before the first one is; return the number of knees. No image is opened.

    Raises:
        InputError: Something is wrong with the data, e.g. a fold lacks a grade.
    """
    build.check_device(cfg.trainer.accelerator)
    for fold in range(cfg.data.folds):
        data = OmegaConf.merge(cfg.data, {"fold": fold})
        assert isinstance(data, DictConfig)
        said_already = contextlib.redirect_stderr(io.StringIO()) if fold else contextlib.nullcontext()
        try:
            with said_already:
                rows = data_module(data).rows(("train", "val"))
        except InputError as error:
            raise InputError(f"fold {fold} of {cfg.data.folds}: {error}") from error
    return len(rows)


def config(cfg: DictConfig, fold: int, name: str, run: Any) -> dict[str, Any]:
    """Return the config of one fold's training, plain.

    Args:
        cfg: The config `cross_validate`.
        fold: Number of the fold.
        name: Name of the cross-validation.
        run: Tracked run of the cross-validation, the parent of the fold's run.
    """
    settings = {key: value for key, value in plain(cfg).items() if key not in ("parallel", "fresh")}
    settings["data"]["fold"] = fold
    settings["out"] = str(Path(cfg.out) / f"fold_{fold}")
    settings["name"] = f"{name} fold {fold}"
    tracking = settings["tracking"]
    tracking["run_name"] = tracking["run_name"] and f"{tracking['run_name']} fold {fold}"
    tracking["parent"] = run.run_id or None
    return settings


def collect(cfg: DictConfig, folder: Path, run: Any) -> dict[str, Any]:
    """Pool the predictions of all folds, compute metrics, draw and log; return the content of `metrics.json`.

    Args:
        cfg: The config `cross_validate`.
        folder: Its folder, with all folds done.
        run: The tracked run, still open.

    Raises:
        InputError: The folds were not trained on the same knees.
    """
    places = [folder / f"fold_{fold}" for fold in range(cfg.data.folds)]
    records = _records(places)
    knees = _same_knees(places, cfg.data.fraction == 1)
    pooled = pool([pd.read_parquet(place / "predictions.parquet") for place in places])
    own = [record["metrics"] for record in records]
    metrics = {"loss": _pooled_loss(own), **table_metrics(pooled)}
    files = table.write(pooled, folder)
    caveats = list(dict.fromkeys(caveat for record in records for caveat in record["marks"]))
    everything = {**metrics, "between_folds": between(own), "folds": own, "marks": caveats}
    (folder / "metrics.json").write_text(json.dumps(everything, indent=1))
    files += [
        folder / "metrics.json",
        *_draw(pooled, f"{cfg.data.name}, out of fold ({cfg.data.folds} folds)", caveats, folder),
    ]
    facts = {**records[0], "marks": caveats, "data": str(cfg.data.name), "seed": cfg.seed}
    _log(run, {**metrics}, everything["between_folds"], facts, knees, source_of(cfg.data))
    for file in files:
        run.log_artifact(file, "oof")
    return everything


def _records(folders: list[Path]) -> list[dict[str, Any]]:
    """Return the results of each fold; stop if one has other metrics than the first."""
    records: list[dict[str, Any]] = [json_files.read(each / FOLD_FILE, run_files.FOLD, _RESTART) for each in folders]
    for folder, record in zip(folders, records, strict=True):
        if other := sorted(record["metrics"].keys() ^ records[0]["metrics"].keys()):
            raise InputError(f"{folder / FOLD_FILE}: only some folds have the metric {other[0]}; {_RESTART}")
    return records


def no_better(folder: Path) -> str:
    """Return a line if one grade for all knees is as good as the pooled predictions, or an empty string.

    Args:
        folder: Folder of the cross-validation, after pooling.
    """
    knees = of_table(pd.read_parquet(folder / "predictions.parquet"))
    return constant.no_better(knees.grade, knees.argmax)


def pool(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the out-of-fold predictions: the tables of folds 0, 1, ... in one, by path, with a last column `fold`.

    Raises:
        InputError: A knee is in two folds.
    """
    pooled = pd.concat([rows.assign(fold=fold) for fold, rows in enumerate(tables)], ignore_index=True)
    pooled.insert(len(pooled.columns) - 1, "fold", pooled.pop("fold"))  # a source may have a column of this name
    twice = pooled.loc[pooled["path"].duplicated(), "path"]
    if len(twice):
        raise InputError(f"{twice.iloc[0]}: is in two folds; the data has changed in between; start again: fresh=true")
    return pooled.sort_values("path", ignore_index=True)


def between(folds: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return mean, sample sd (n - 1), min and max of each metric over the folds; None if a fold lacks the metric.

    The folds share most of their training knees, so the sd shows how much they differ; it is no confidence interval.
    """
    spread: dict[str, dict[str, float | None]] = {}
    for name in folds[0]:
        values = [fold[name] for fold in folds]
        if any(value is None for value in values):
            spread[name] = dict.fromkeys(BETWEEN)
            continue
        x = np.array(values, dtype=np.float64)
        numbers = (x.mean(), x.std(ddof=1) if len(x) > 1 else 0.0, x.min(), x.max())
        spread[name] = {key: float(number) for key, number in zip(BETWEEN, numbers, strict=True)}
    return spread


def _same_knees(folders: list[Path], whole: bool) -> pd.DataFrame:
    """Return the knees of all folds with `split` naming the fold; stop if the folds saw different knees.

    Args:
        folders: Folders of the folds.
        whole: Whether each fold has every knee; else each has another share of its train split (`data.fraction`).
    """
    columns = ["path", "hash", "grade", "patient", "side"]
    seen, parts = pd.DataFrame(), []
    for fold, folder in enumerate(folders):
        rows = pd.read_parquet(folder / "manifest.parquet")
        both = pd.concat([seen, rows[columns]]).drop_duplicates()
        changed = bool(both["path"].duplicated().any())
        if changed or (whole and fold and not len(seen) == len(both) == len(rows)):
            raise InputError(
                f"{folder}: its knees differ from those of earlier folds; the data has changed; start again: fresh=true"
            )
        seen = both
        parts.append(rows.loc[rows["split"] == "val", columns].assign(split=f"fold_{fold}"))
    return pd.concat(parts, ignore_index=True)


def _pooled_loss(folds: list[dict[str, Any]]) -> float | None:
    if any(fold["loss"] is None for fold in folds):
        return None
    return float(np.average([fold["loss"] for fold in folds], weights=[fold["n_knees"] for fold in folds]))


def _draw(pooled: pd.DataFrame, title: str, caveats: list[str], folder: Path) -> list[Path]:
    figure = figures.confusion_matrix_figure(table.confusion(pooled), title, caveats)
    return saving.save(figure, folder / "confusion_matrix")


def _log(
    run: Any,
    metrics: dict[str, Any],
    spread: dict[str, dict[str, float | None]],
    record: dict[str, Any],
    knees: pd.DataFrame,
    source: str,
) -> None:
    values = {f"oof/{name}": value for name, value in metrics.items()}
    values |= {f"oof/{name}_sd": spread[name]["sd"] for name in metrics if name not in ("n_knees", "n_patients")}
    run.log_metrics({name: value for name, value in values.items() if value is not None}, 0)
    splits = sorted(knees["split"].unique())
    fingerprint = mf.fingerprint(knees, splits)
    data = record["data"]
    tags = {name: record[name] for name in ("weights", "split", "data", "seed")}
    run.log_tags({**tags, "marks": ", ".join(record["marks"]) or "none", "data.fingerprint": fingerprint})
    counts = {f"{split} grade {grade}": n for split in splits for grade, n in enumerate(mf.counts(knees, split))}
    run.log_dataset(data, fingerprint, source, counts, "cross-validation")
