"""Measure a checkpoint: `python -m koa_lightning.eval ckpt=FILE split=test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import reading
from koa_lightning.config.compose import validate
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.evaluation import data as evaluation_data
from koa_lightning.evaluation import ensemble, referral
from koa_lightning.evaluation import results as measured
from koa_lightning.evaluation import uncertainty as trusted
from koa_lightning.evaluation.data import run_of
from koa_lightning.evaluation.explanations import record_tests
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.results import measure_table, say
from koa_lightning.explain import cam
from koa_lightning.metrics import predictions as table
from koa_lightning.metrics.tables import read_predictions
from koa_lightning.reporting import provenance
from koa_lightning.reporting.panels import draw_graded
from koa_lightning.reporting.report import page
from koa_lightning.tracking.find import find_checkpoints
from koa_lightning.tracking.none import NoRun

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint
    from koa_lightning.evaluation.results import Measured


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Grade a part with a checkpoint, measure, draw, and log.

    Args:
        cfg: The config `eval`, composed.

    Returns:
        The metrics by name, and `n_knees`, `n_patients`, `out`.

    Raises:
        InputError: Whatever the user can put right.
    """
    validate(cfg)
    if cfg.table is not None:
        return _of_table(cfg)
    if cfg.logits:
        raise InputError("logits=true: is about a table; type table=FILE too")

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    files = find_checkpoints(cfg.ckpt, cfg.tracking.uri)
    if len(files) > 1:
        return ensemble.evaluate(cfg, files)
    read = reading.read(files[0])
    referral.resolve_threshold(cfg, read.record.fitted)
    data = evaluation_data.data_of(cfg, read, cfg.split)
    measured.check(cfg, data.tables[cfg.split])
    marks = list(dict.fromkeys([*read.caveats, *data.marks]))
    run = run_of(cfg, read, data, marks)
    status = "FAILED"
    try:
        metrics, found, lines = _measure(cfg, read, data, marks, run)
        provenance.of_checkpoint(cfg, read, data, marks, run)
        page.at_end(cfg, run, f"eval/{cfg.split}")
        status = "FINISHED"
    finally:
        run.close(status)
    say(cfg.split, metrics, found, marks, folder, lines)
    return {**metrics, "out": str(folder)}


def _of_table(cfg: DictConfig) -> dict[str, Any]:
    """Measure a predictions table from anywhere, without its model; nothing is logged."""
    if not OmegaConf.is_missing(cfg, "ckpt"):
        raise InputError("ckpt and table are mutually exclusive; type one of them")
    predictions = read_predictions(cfg.table, logits=cfg.logits, where=f"table={cfg.table}")
    measured.check(cfg, predictions)
    metrics = measure_table(predictions)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    found = measured.measure(cfg, predictions, folder)
    table.write(predictions, folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    trust = trusted.evaluate_table(cfg, predictions, folder)
    provenance.of_table(cfg, predictions)
    page.at_end(cfg, NoRun(), "")
    say(Path(cfg.table).name, metrics, found, [], folder, trust.lines)
    return {**metrics, "out": str(folder)}


def _measure(
    cfg: DictConfig, read: Checkpoint, data: KneeDataModule, marks: list[str], run: Any
) -> tuple[dict[str, Any], Measured, list[str]]:
    folder = Path(cfg.out)
    member = Member(read)
    net = member.net
    if cfg.explain.enabled:
        cam.check(net, read.preprocessing.image_size, "explain=none", **cam.asked(cfg.explain, net))
    graded = member.grade_split(data, cfg.split, flip=cfg.tta == "flip", calibrated=cfg.calibrated)
    metrics = measured.measure_split(graded, read.record)
    found = measured.measure(cfg, graded.table, folder, read.record.fitted.thresholds)  # it clears the folder first
    files = table.write(graded.table, folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    trust = trusted.evaluate(cfg, read, data, graded, marks, run)
    drawn = draw_graded(
        net,
        data.datasets[cfg.split],
        graded.table["path"].tolist(),
        graded.logits,
        marks,
        folder,
        title=f"{data.name}, {cfg.split} part",
        n_worst=cfg.explain.n_worst if cfg.explain.enabled else None,
        probabilities=graded.probabilities,
        maps=cam.asked(cfg.explain, net),
        more_panels=True,
    )
    part = _part(cfg, read)
    numbers = {**measured.to_log(found), **{name: value for name, value in metrics.items() if value is not None}}
    run.log_metrics({f"{part}/{name}": value for name, value in numbers.items()}, read.epoch)
    for file in [*files, folder / "metrics.json", *found.files, *trust.files, *drawn]:
        run.log_artifact(file, f"eval/{cfg.split}")
    if cfg.explain.enabled and cfg.explain.tests:
        how = {"marks": marks, "checkpoint": str(read.path), "epoch": read.epoch, "quiet": cfg.quiet}
        record_tests(net, data, cfg.split, cfg.explain, folder, run, **how)
    return metrics, found, trust.lines


def _part(cfg: DictConfig, read: Checkpoint) -> str:
    """Return under which name metrics are logged: those of training are raw, so calibrated ones go beside them."""
    if cfg.split not in ("train", "val"):
        return "test"
    changed = cfg.calibrated and read.record.fitted.method != "none"
    return f"{cfg.split}_calibrated" if changed else str(cfg.split)
