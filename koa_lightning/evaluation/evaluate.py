"""Measure a checkpoint: `python -m koa_lightning.eval ckpt=FILE split=test`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import validate
from koa_lightning.data.manifest import n_patients
from koa_lightning.errors import InputError
from koa_lightning.losses.build import recorded_loss
from koa_lightning.reporting.panels import draw_graded
from koa_lightning.tracking.find import find_checkpoints

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from koa_lightning.checkpoint.record import Checkpoint
    from koa_lightning.data.datamodule import KneeDataModule
    from koa_lightning.evaluation.results import Measured
    from koa_lightning.models.net import KneeNet


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

    from koa_lightning.checkpoint import record
    from koa_lightning.evaluation import data as evaluation_data
    from koa_lightning.evaluation import predictor, report
    from koa_lightning.evaluation import results as measured
    from koa_lightning.reporting import provenance

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    files = find_checkpoints(cfg.ckpt, cfg.tracking.uri)
    if len(files) > 1:
        from koa_lightning.evaluation import ensemble

        return ensemble.evaluate(cfg, files)
    read = record.read(files[0])
    predictor.settle(cfg, read.record)
    data = evaluation_data.data_of(cfg, read, cfg.split)
    measured.check(cfg, data.tables[cfg.split])
    marks = list(dict.fromkeys([*read.marks, *data.marks]))
    run = run_of(cfg, read, data, marks)
    status = "FAILED"
    try:
        metrics, found, lines = _measure(cfg, read, data, marks, run)
        provenance.of_checkpoint(cfg, read, data, marks, run)
        report.at_end(cfg, run, f"eval/{cfg.split}")
        status = "FINISHED"
    finally:
        run.close(status)
    say(cfg.split, metrics, found, marks, folder, lines)
    return {**metrics, "out": str(folder)}


def _of_table(cfg: DictConfig) -> dict[str, Any]:
    """Measure a predictions table from anywhere, without its model; nothing is logged."""
    from koa_lightning.evaluation import report
    from koa_lightning.evaluation import results as measured
    from koa_lightning.evaluation import uncertainty as trusted
    from koa_lightning.metrics import predictions as table
    from koa_lightning.metrics.tables import read_predictions
    from koa_lightning.reporting import provenance
    from koa_lightning.tracking.none import NoRun

    if not OmegaConf.is_missing(cfg, "ckpt"):
        raise InputError("ckpt and table: one of them is measured; leave the other away")
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
    report.at_end(cfg, NoRun(), "")
    say(Path(cfg.table).name, metrics, found, [], folder, trust.lines)
    return {**metrics, "out": str(folder)}


def _measure(
    cfg: DictConfig, read: Checkpoint, data: KneeDataModule, marks: list[str], run: Any
) -> tuple[dict[str, Any], Measured, list[str]]:
    import torch

    from koa_lightning.evaluation import results as measured
    from koa_lightning.evaluation import uncertainty as trusted
    from koa_lightning.explain import cam
    from koa_lightning.metrics import predictions as table
    from koa_lightning.uncertainty import out_of_distribution

    folder = Path(cfg.out)
    net = read.network()
    if cfg.explain.enabled:
        cam.check(net, read.preprocessing.image_size, "explain=none", **cam.asked(cfg.explain, net))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    flip = cfg.tta == "flip"
    with out_of_distribution.watching(net) as features:
        predictions, logits, metrics = grade_part(
            read, net.to(device), data, cfg.split, flip=flip, calibrated=cfg.calibrated
        )
    found = measured.measure(cfg, predictions, folder, read.record.get("thresholds"))  # it clears the folder first
    files = table.write(predictions, folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    trust = trusted.evaluate(cfg, read, data, logits, features[:: 1 + flip], marks, run)
    drawn = draw_graded(
        net,
        data.datasets[cfg.split],
        predictions["path"].tolist(),
        logits,
        marks,
        folder,
        title=f"{data.name}, {cfg.split} part",
        n_worst=cfg.explain.n_worst if cfg.explain.enabled else None,
        probabilities=read.probabilities(logits, cfg.calibrated),
        maps=cam.asked(cfg.explain, net),
        more_panels=True,
    )
    part = _part(cfg, read)
    numbers = {**measured.to_log(found), **{name: value for name, value in metrics.items() if value is not None}}
    run.log_metrics({f"{part}/{name}": value for name, value in numbers.items()}, read.epoch)
    for file in [*files, folder / "metrics.json", *found.files, *trust.files, *drawn]:
        run.log_artifact(file, f"eval/{cfg.split}")
    if cfg.explain.enabled and cfg.explain.tests:
        from koa_lightning.evaluation.explanations import record_tests

        how = {"marks": marks, "checkpoint": str(read.path), "epoch": read.epoch, "quiet": cfg.quiet}
        record_tests(net, data, cfg.split, cfg.explain, folder, run, **how)
    return metrics, found, trust.lines


def _part(cfg: DictConfig, read: Checkpoint) -> str:
    """Return under which name metrics are logged: those of training are raw, so calibrated ones go beside them."""
    if cfg.split not in ("train", "val"):
        return "test"
    changed = cfg.calibrated and read.record.get("calibration", {}).get("method", "none") != "none"
    return f"{cfg.split}_calibrated" if changed else str(cfg.split)


def grade_part(
    read: Checkpoint, net: KneeNet, data: KneeDataModule, part: str, *, flip: bool = False, calibrated: bool = False
) -> tuple[pd.DataFrame, Tensor, dict[str, Any]]:
    """Grade a part that is prepared; return the predictions table, the logits (float N x K), and the metrics.

    Args:
        read: The checkpoint, for its loss.
        net: Its network, on the device that computes.
        data: With that part.
        part: Its name.
        flip: Also grade the mirrored images, and average the logits.
        calibrated: With the probabilities that the checkpoint promises; the loss is that of the logits all the same.

    Raises:
        InputError: The network gives no numbers.
    """
    import torch

    from koa_lightning.metrics import predictions as table
    from koa_lightning.models.inference import check_finite, grade_batches

    device = next(net.parameters()).device
    logits = torch.cat(list(grade_batches(net, data.eval_dataloader(part), device, flip)))
    check_finite(logits, read.path)
    knees = data.tables[part]
    predictions = table.predictions_table(knees, logits, net.spec.link, read.probabilities(logits, calibrated))
    loss = recorded_loss(read.record)
    mean = mean_loss(loss, logits, knees["grade"]) if loss else None
    return predictions, logits, {"loss": mean, **measure_table(predictions)}


def mean_loss(loss: torch.nn.Module, logits: Tensor, grade: pd.Series) -> float:
    """Return the mean loss of the knees of a known grade, as validation takes it; 0 without any.

    Args:
        loss: Of logits and grade.
        logits: float N x K.
        grade: Of each knee, -1 where unknown.
    """
    import torch

    true = torch.tensor(grade.to_numpy(dtype="int64"))
    known = true >= 0
    if not known.any():
        return 0.0
    with torch.no_grad():
        return float(loss(logits[known], true[known]))


def measure_table(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of the rows whose grade is known; one that is undefined is None."""
    from koa_lightning.metrics import predictions as table
    from koa_lightning.metrics.grade_metrics import measure

    rows = table.known(predictions)
    if rows.empty:
        raise InputError("no knee of a known grade; use koa_lightning.predict where grades are unknown")
    values = measure(rows[table.PROBABILITIES].to_numpy(), rows["grade"].to_numpy(dtype="int64"))
    numbers: dict[str, Any] = {name: value if value == value else None for name, value in values.items()}
    return {**numbers, "n_knees": len(rows), "n_patients": n_patients(rows)}


def run_of(cfg: DictConfig, read: Checkpoint, data: KneeDataModule, marks: list[str]) -> Any:
    """Open the run that trained a checkpoint when its own data is measured plainly, else a new one.

    So it is for `last.ckpt`: the training run has the measures of the one that was chosen.

    Args:
        cfg: The config `eval`, or one that builds on it.
        read: The checkpoint.
        data: Prepared, of which `cfg.split` is measured.
        marks: What every figure and the run carry.
    """
    from koa_lightning.tracking.begin import mark_tags, open_run

    trained = read.record["tracking"].get("run_id") or ""
    plain_own = not cfg.get("data") and cfg.tta == "none" and cfg.split in ("val", "test") and read.path.stem != "last"
    name = f"eval {read.path.stem} on {data.name} {cfg.split}"
    run = open_run(
        cfg.tracking,
        Path(cfg.out),
        name,
        run_id=trained if plain_own else None,
        uri=read.record["tracking"].get("uri") or None,
        attach=True,
    )
    if run.run_id != trained:
        tags = {"evaluates": trained or str(read.path), "tta": cfg.tta, "split": cfg.split, "data": data.name}
        run.log_tags({**tags, "data.fingerprint": data.fingerprint, **mark_tags(marks)})
    return run


def say(
    part: str, metrics: dict[str, Any], found: Measured, marks: list[str], folder: Path, lines: Sequence[str] = ()
) -> None:
    """Print the metrics, what marks them, and where everything is."""
    from rich.console import Console

    from koa_lightning.reporting import console

    title = f"{part}: {metrics['n_knees']} knees of {metrics['n_patients']} patients"
    console.say(
        found.intervals,
        title,
        {name: metrics[name] for name in ("loss",) if name in metrics},
        groups=found.groups,
        agreement=found.agreement,
        remarks=found.remarks,
    )
    print("\n".join(lines))
    if marks:
        Console().print(f"[bold red]{', '.join(marks)}[/]")
    print(DISCLAIMER)
    print(f"written to {folder}")
