"""A page on an evaluation, for a paper's supplement: `python -m koa_lightning.report ckpt=FOLDER`, or `table=FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import configured
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.settings import Settings
from koa_lightning.metrics.intervals import N_RESAMPLES
from koa_lightning.reporting import console, report_data
from koa_lightning.reporting.report import page, paper
from koa_lightning.tracking.begin import closing, open_run

if TYPE_CHECKING:
    from koa_lightning.reporting.report_data import ReportData


@configured
def report(cfg: DictConfig) -> dict[str, Any]:
    """Report on an existing evaluation, or evaluate first.

    Args:
        cfg: The composed config `report`: that of `eval`, but `ckpt` may also be the folder of an evaluation or of a
            cross-validation.

    Returns:
        The metrics by name, and `out`.

    Raises:
        InputError: Any error that the user can fix.
    """
    validate(cfg, "report")
    made = None if cfg.table is not None else _made(cfg.get("ckpt") if not OmegaConf.is_missing(cfg, "ckpt") else None)
    if made is None:
        cfg.report = cfg.format == "html"
        result = evaluate(cfg)
        if cfg.format != "html":
            _write_paper(report_data.read(Path(cfg.out), cfg.audit), Path(cfg.out), cfg.format)
        return result
    asked = Settings.of(cfg)
    _check_settings(asked, made)

    folder = Path(cfg.out)
    found = report_data.read(made, asked.audit, asked.subgroups, asked.edges, asked.readers)
    folder.mkdir(parents=True, exist_ok=True)
    if cfg.format == "html":
        files = page.write(found, folder)
        _say(found.caveats, folder)
    else:
        files = _write_paper(found, folder, cfg.format)
    _log(cfg, found, files)
    return {**{name: entry["value"] for name, entry in found.metrics.items()}, "out": str(folder)}


def _write_paper(found: ReportData, folder: Path, kind: str) -> list[Path]:
    """Write the table of results and the paragraph on methods; print where they are."""
    files = paper.write(found, folder, kind)
    console.say_caveats(found.caveats)
    print(DISCLAIMER)
    print(f"written: {', '.join(map(str, files))}")
    return files


def _made(ckpt: Any) -> Path | None:
    """Return the folder of an evaluation or cross-validation that `ckpt` names; None if it is not a folder."""
    if ckpt is None:
        raise InputError("ckpt: must be given; type ckpt=FOLDER of eval or cross_validate, ckpt=FILE, or table=FILE")
    folder = user_path(str(ckpt))
    if not folder.is_dir():
        return None
    if not any((folder / f"predictions.{kind}").is_file() for kind in ("parquet", "csv")):
        hint = "finish the cross-validation" if (folder / "cross_validation.json").is_file() else "name eval's folder"
        raise InputError(f"ckpt={ckpt}: the folder has no predictions; {hint}, or name a checkpoint file")
    return folder


def _check_settings(asked: Settings, made: Path) -> None:
    """Refuse settings that need a new evaluation: a report must not mix numbers from two."""
    given = {"thresholds": (asked.thresholds, None), "n_resamples": (asked.n_resamples, N_RESAMPLES)}
    for name, (value, default) in given.items():
        if value != default:
            typed = f"{name}={value}"
            raise InputError(
                f"{typed}: takes effect in eval only, and {made} is already evaluated; type python -m "
                f"koa_lightning.eval ckpt=FILE {typed}, or here table={made} instead of ckpt"
            )


def _log(cfg: DictConfig, found: ReportData, files: list[Path]) -> None:
    """Add the report to the tracked run of the evaluation, if there is one."""
    tracked, split = found.about["tracking"], found.about["data"]["part"]
    if not tracked.get("run_id"):
        return
    place = "oof" if found.kind == "cross-validation" else f"eval/{split}"
    name = f"report on {found.about['data']['name']} {split}"
    run = open_run(cfg.tracking, Path(cfg.out), name, tracked["run_id"], tracked.get("uri") or None, attach=True)
    with closing(run):
        for file in files:
            run.log_artifact(file, place)


def _say(caveats: list[str], folder: Path) -> None:
    console.say_caveats(caveats)
    print(DISCLAIMER)
    print(f"report: {folder / 'report.html'}; report.json and figures/ beside it")
