"""Evaluation from Python: `koa_lightning.evaluate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from koa_lightning.checkpoint import training_overlap
from koa_lightning.config.from_python import composed
from koa_lightning.config.overrides import key, quote
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.evaluation import ensemble
from koa_lightning.evaluation.data import data_for
from koa_lightning.evaluation.predictor import Predictor
from koa_lightning.evaluation.settings import Settings
from koa_lightning.metrics.intervals import Interval, with_intervals
from koa_lightning.metrics.predictions import PROBABILITIES

_SETTINGS = ("split", "tta", "calibrated", "batch_size", "n_resamples", "quiet")


def evaluate(grader: Predictor | None, data: str | Path | Sequence[str] | pd.DataFrame) -> dict[str, Interval]:
    """Return the metrics of a grader on labelled knees, each with its 95 % interval by bootstrap over patients.

    Nothing is written or logged; `python -m koa_lightning.eval` also draws, reports and tracks.

    Args:
        grader: From `load_model`; None if `data` is a table of predictions.
        data: One of

            - a folder `{0..4}/NAME`, or a table with `path` and `grade` (CSV or Parquet): all its knees;
            - overrides as for `koa_lightning.eval`, e.g. `["data=chen2018", "data.root=FOLDER", "split=test"]`:
              data, data.*, split, tta, calibrated, batch_size, n_resamples. The default is the test split of the
              checkpoint's own data;
            - predictions: a DataFrame with `grade` and `p0` to `p4`, and `patient` where known.

    Returns:
        Name -> `Interval` (`value`, `low`, `high`, `note`), e.g. for `quadratic_kappa`, `accuracy`, `mae`.

    Raises:
        InputError: Any error that the user can fix.
    """
    if isinstance(data, pd.DataFrame):
        if lacking := [name for name in ("grade", *PROBABILITIES) if name not in data]:
            raise InputError(f"predictions: there is no column {lacking[0]}; give grade and p0 to p4")
        return with_intervals(data)
    if grader is None:
        raise InputError("grader=None: only a table of predictions needs no grader; give load_model(FILE)")
    typed = _overrides(data)
    cfg = composed("eval", ["quiet=true", *typed])
    return with_intervals(_graded(grader, cfg, typed), n_resamples=cfg.n_resamples)


def _graded(grader: Predictor, cfg: DictConfig, typed: Sequence[str]) -> pd.DataFrame:
    settings, modules = Settings.of(cfg), [data_for(cfg, read, typed) for read in grader.checkpoints]
    if len(grader.members) > 1:
        predictions, _, _ = ensemble.grade(settings, grader.checkpoints, modules)
        return predictions
    [member] = grader.members
    module, split = modules[0].prepare((settings.split,)), settings.split
    knees, seen = module.tables[split], training_overlap.seen_in_training(member.checkpoint)
    if seen is not None and split != "val":
        alike = training_overlap.names_alike(settings.given, member.checkpoint)
        if n := int(training_overlap.was_trained_on(knees, seen, alike).sum()):
            print(
                f"WARNING: the model was trained on {n} of these {len(knees)} knees, or their patients", file=sys.stderr
            )
    return member.grade_split(module, split, flip=settings.flip, calibrated=settings.calibrated).table


def _overrides(data: str | Path | Sequence[str]) -> list[str]:
    if isinstance(data, str | Path):
        place = user_path(data)
        if not place.exists():
            raise InputError(f"{data}: there is no such folder or table; for other data, give a list of overrides")
        kind, name = ("folder", "root") if place.is_dir() else ("table", "table")
        return [f"data={kind}", f"data.{name}={quote(str(place))}", "split=all"]
    typed = [str(each) for each in data]
    for item in typed:
        if key(item) not in (*_SETTINGS, "data") and not key(item).startswith("data."):
            raise InputError(
                f"{item}: evaluate takes data, data.*, {', '.join(_SETTINGS)}; for more, python -m koa_lightning.eval"
            )
    return typed
