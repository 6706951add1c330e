"""Evaluate a checkpoint: `python -m koa_lightning.eval ckpt=FILE split=test`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import reading
from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import configured
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.evaluation import ensemble, results
from koa_lightning.evaluation import uncertainty as trusted
from koa_lightning.evaluation.data import data_for, run_of
from koa_lightning.evaluation.explanations import check_testable, record_tests
from koa_lightning.evaluation.grading import Member
from koa_lightning.evaluation.results import say, table_metrics
from koa_lightning.evaluation.settings import Settings
from koa_lightning.explain import cam
from koa_lightning.metrics import predictions as table
from koa_lightning.metrics.tables import read_predictions
from koa_lightning.reporting import provenance
from koa_lightning.reporting.panels import draw_graded
from koa_lightning.reporting.report import page
from koa_lightning.tracking.begin import closing
from koa_lightning.tracking.find import find_checkpoints
from koa_lightning.tracking.none import NoRun

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint
    from koa_lightning.evaluation.results import Evaluation


@configured
def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Evaluate a checkpoint on a split: grade, compute, draw and log.

    Args:
        cfg: The composed config `eval`.

    Returns:
        The metrics by name, and `n_knees`, `n_patients`, `out`.

    Raises:
        InputError: Any error that the user can fix.
    """
    validate(cfg)
    if cfg.table is not None:
        if not OmegaConf.is_missing(cfg, "ckpt"):
            raise InputError("ckpt and table are mutually exclusive; type one of them")
        return _of_table(Settings.of(cfg), cfg.table)
    if cfg.logits:
        raise InputError("logits=true: applies only to a table; type table=FILE too")

    settings = Settings.of(cfg)
    settings.out.mkdir(parents=True, exist_ok=True)
    files = find_checkpoints(cfg.ckpt, cfg.tracking.uri)
    if len(files) > 1:
        return ensemble.evaluate(cfg, settings, files)
    read = reading.read(files[0])
    settings = settings.with_threshold(read.record.fitted)
    data = data_for(cfg, read).prepare((settings.split,))
    results.check(settings, data.tables[settings.split])
    caveats = list(dict.fromkeys([*read.caveats, *data.caveats]))
    run = run_of(cfg, read, data, caveats)
    with closing(run):
        metrics, found, lines = _evaluate(settings, cfg.explain, read, data, caveats, run)
        asked = {"tta": settings.tta, "calibrated": settings.calibrated}
        about = provenance.of_checkpoint(read, data, settings.split, settings.given, caveats, asked, run)
        place = f"eval/{settings.split}"
        run.log_artifact(provenance.write(about, settings.out), place)
        if settings.report:
            page.at_end(settings.out, settings.audit, run, place)
    say(settings.split, metrics, found, caveats, settings.out, lines)
    return {**metrics, "out": str(settings.out)}


def _of_table(settings: Settings, file: str) -> dict[str, Any]:
    """Evaluate a predictions table from anywhere, without its model; nothing is logged."""
    predictions = read_predictions(file, logits=settings.logits, where=f"table={file}")
    results.check(settings, predictions)
    metrics = table_metrics(predictions)
    folder, name = settings.out, Path(file).name
    folder.mkdir(parents=True, exist_ok=True)
    found = results.evaluate_table(settings, predictions, folder)
    table.write(predictions, folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    refer_below = settings.with_threshold(Fitted()).refer_below or 0.0
    trust = trusted.evaluate_table(predictions, name, refer_below, folder)
    provenance.write(provenance.of_table(predictions, name, {"logits": settings.logits}), folder)
    if settings.report:
        page.at_end(folder, settings.audit, NoRun(), "")
    say(name, metrics, found, [], folder, trust.lines)
    return {**metrics, "out": str(folder)}


def _evaluate(
    settings: Settings, explain: DictConfig, read: Checkpoint, data: KneeDataModule, caveats: list[str], run: Any
) -> tuple[dict[str, Any], Evaluation, list[str]]:
    folder, split = settings.out, settings.split
    if explain.enabled and explain.tests:
        check_testable(read)
    member = Member(read)
    net = member.net
    if explain.enabled:
        cam.check(net, read.preprocessing.image_size, "explain=none", **cam.asked(explain, net))
    graded = member.grade_split(data, split, flip=settings.flip, calibrated=settings.calibrated)
    metrics = results.split_metrics(graded, read.record)
    found = results.evaluate_table(
        settings, graded.table, folder, read.record.fitted.thresholds
    )  # it clears the folder first
    files = table.write(graded.table, folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    trust = trusted.evaluate(settings, read, data, graded, caveats, run)
    drawn = draw_graded(
        net,
        data.datasets[split],
        graded.table["path"].tolist(),
        graded.logits,
        caveats,
        folder,
        title=f"{data.name}, {split} split",
        n_worst=explain.n_worst if explain.enabled else None,
        probabilities=graded.probabilities,
        maps=cam.asked(explain, net),
        more_panels=True,
    )
    logged = _logged_split(settings, read)
    numbers = {**results.to_log(found), **{name: value for name, value in metrics.items() if value is not None}}
    run.log_metrics({f"{logged}/{name}": value for name, value in numbers.items()}, read.epoch)
    for file in [*files, folder / "metrics.json", *found.files, *trust.files, *drawn]:
        run.log_artifact(file, f"eval/{split}")
    if explain.enabled and explain.tests:
        record_tests(net, data, split, explain, folder, run, read=read, caveats=caveats, quiet=settings.quiet)
    return metrics, found, trust.lines


def _logged_split(settings: Settings, read: Checkpoint) -> str:
    """Return the prefix of logged metrics; calibrated ones need their own, because training logs raw ones."""
    changed = settings.calibrated and read.record.fitted.method != "none"
    own = settings.logged_split
    return f"{own}_calibrated" if changed and own != "test" else own
