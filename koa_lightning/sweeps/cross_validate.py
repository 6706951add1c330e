"""Train one network per fold; evaluate each on the patients it did not see: `python -m koa_lightning.cross_validate`.

`train` trains each fold in a process of its own: a fold that dies stops no other, its memory is freed (the tuned
allocator would keep it), and folds that run in parallel use the same code. The same command resumes an interrupted
cross-validation, as the folder's name follows from the settings.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from koa_lightning import DISCLAIMER
from koa_lightning.config import gpus, json_files, outcome, overrides, run_files, run_folder, trial, typed
from koa_lightning.config.addresses import without_passwords
from koa_lightning.config.compose import plain, validate
from koa_lightning.config.figures import configured
from koa_lightning.config.places import replace_text
from koa_lightning.errors import InputError
from koa_lightning.reporting import console
from koa_lightning.sweeps import processes
from koa_lightning.tracking.begin import open_run
from koa_lightning.training import build, cross_validation
from koa_lightning.training.cross_validation import is_done
from koa_lightning.training.run import name_places

RECORD_FILE = "cross_validation.json"
_SHOWN = {  # in the closing table, under names that fit in 80 columns
    "accuracy": "accuracy", "balanced_accuracy": "balanced", "quadratic_kappa": "kappa", "mae": "mae",
    "auroc_oa": "auroc_oa", "ece": "ece",
}  # fmt: skip


@configured
def cross_validate(cfg: DictConfig) -> dict[str, Any]:
    """Train every fold that is not done yet; pool and evaluate their out-of-fold predictions.

    Args:
        cfg: The config `cross_validate`, composed.

    Returns:
        The metrics of the pooled table by name, `between_folds`, `folds`, `out`, `exit_code` (1 if a fold failed,
        130 if it was interrupted), and the monitored metric under its own name.

    Raises:
        InputError: Any error that the user can correct.
    """
    validate(cfg)
    _check(cfg)
    name_places(cfg)
    folder = Path(cfg.out)
    with run_folder.holding(folder):
        return _cross_validate(cfg, folder)


def _check(cfg: DictConfig) -> None:
    if cfg.data.folds is None:
        raise InputError("data.folds must be given; type data.folds=5")
    if cfg.ckpt is not None:
        raise InputError(f"ckpt={cfg.ckpt}: a cross-validation resumes by itself; type its command without ckpt=")
    if cfg.data.fold != 0:
        one = f"python -m koa_lightning.train data.folds={cfg.data.folds} data.fold={cfg.data.fold}"
        raise InputError(f"data.fold={cfg.data.fold}: this command trains every fold; to train one alone: {one}")
    gpus.check_room("parallel", cfg.parallel, str(cfg.trainer.accelerator), cfg.trainer.devices)
    record = Path(cfg.out) / RECORD_FILE
    if cfg.fresh and record.exists():
        raise InputError(f"out={cfg.out}: holds a cross-validation already; fresh=true needs another folder")


def _begun(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the record of the cross-validation begun in the folder; empty if there is none."""
    file = folder / RECORD_FILE
    if not file.exists():
        return {}
    record: dict[str, Any] = json_files.read(file, run_files.CROSS_VALIDATION, "type fresh=true, or another out=FOLDER")
    then, now = record["settings"], json.loads(json.dumps(settings))
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            raise InputError(
                f"{name}={now.get(name)}: the cross-validation in {folder} began with {then.get(name)}; type the same, "
                "or another out=FOLDER"
            )
    return record


def _cross_validate(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    settings, n_folds = typed.settings(cfg), int(cfg.data.folds)
    begun = _begun(folder, settings)
    n_knees = cross_validation.check(cfg)
    name = build.run_name(cfg, all_folds=True)
    tracking = OmegaConf.merge(cfg.tracking, {"system_metrics": False})  # the folds log them
    assert isinstance(tracking, DictConfig)
    run = open_run(tracking, folder, f"{name} cross-validation", begun.get("run_id") or None, begun.get("uri"))
    status, result, codes = "FAILED", dict[str, Any](), dict[int, int]()
    try:
        _remember(folder, {"settings": settings, "run_id": run.run_id, "uri": run.uri})
        settled = without_passwords(plain(cfg))
        run.log_params({key: value for key, value in settled.items() if key not in ("parallel", "fresh")})
        run.end_children()
        left = [fold for fold in range(n_folds) if not cross_validation.is_done(folder / f"fold_{fold}")]
        done = n_folds - len(left)
        print(f"{n_knees} knees in {n_folds} folds, {done} of them done; folder {folder}", flush=True)
        codes = _train_folds(cfg, left, name, run)
        if set(codes.values()) <= {outcome.DONE}:
            result = cross_validation.collect(cfg, folder, run)
            status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
    finally:
        run.close(status)
    result["out"] = str(folder)
    if status == "FINISHED":
        _say(result, n_folds)
        print(f"written to {folder}", flush=True)
        value = result.get(cfg.monitor.split("/")[-1])
        return {**result, cfg.monitor: value, "exit_code": outcome.DONE}
    again = _command(cfg.out, typed.default_folder(cfg))
    return {**result, "exit_code": _unfinished(folder, n_folds, codes, again, status == "KILLED")}


def _remember(folder: Path, record: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / RECORD_FILE, json.dumps(record, indent=1))


def _train_folds(cfg: DictConfig, left: list[int], name: str, run: Any) -> dict[int, int]:
    """Train these folds; return the exit code of each one started."""
    pieces = {}
    for fold in left:
        settings = cross_validation.config(cfg, fold, name, run)
        typed = _overrides_of_fold(settings, cfg.data.folds)
        log = Path(settings["out"]) / "log.txt" if cfg.parallel > 1 else None
        pieces[fold] = processes.Piece({"config": settings, "overrides": typed}, log)
        if log:
            print(f"fold {fold}: its output goes to {log}", flush=True)
    finished = cfg.data.folds - len(left)

    def ended(fold: int, code: int) -> bool:
        nonlocal finished
        finished += code == outcome.DONE
        if code != outcome.DONE:
            how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
            outcome.say_error(f"fold {fold}: {how}" + (f", see {pieces[fold].log}" if pieces[fold].log else ""))
        elif cfg.parallel > 1:
            print(f"fold {fold}: done", flush=True)
        return code != outcome.BAD_INPUT or finished > 0  # what is wrong in the first would be wrong in all

    with trial.saying_together():
        return processes.run_all("koa_lightning.training.cross_validation:work", pieces, cfg.parallel, ended)


def _overrides_of_fold(settings: dict[str, Any], n_folds: int) -> list[str] | None:
    """Return what `train` would be typed with for one fold, so that `train ckpt=` can resume it too."""
    if not HydraConfig.initialized():
        return None
    own = ("out", "parallel", "fresh", "ckpt", "name", "tracking.parent", "data.folds", "data.fold")
    typed = [str(item) for item in HydraConfig.get().overrides.task if overrides.key(str(item)) not in own]
    parent = settings["tracking"]["parent"] or "null"
    fixed = [f"data.folds={n_folds}", f"data.fold={settings['data']['fold']}", f"tracking.parent={parent}"]
    return [*typed, *fixed, f"name={overrides.quote(settings['name'])}"]


def _unfinished(folder: Path, n_folds: int, codes: dict[int, int], again: str, interrupted: bool) -> int:
    """Print which folds are left and the command that resumes them; return the exit code."""
    if interrupted:
        print(f"interrupted; resume with: {again}", flush=True)
        return outcome.INTERRUPTED
    left = [str(fold) for fold in range(n_folds) if not is_done(folder / f"fold_{fold}")]
    print(f"not finished: fold {', '.join(left)} of {n_folds}; nothing was pooled", flush=True)
    print(f"train the remaining folds with: {again}", flush=True)
    nothing_works = len(left) == n_folds and set(codes.values()) == {outcome.BAD_INPUT}
    return outcome.BAD_INPUT if nothing_works else outcome.PARTLY


def _command(out: str, default: str | Path) -> str:
    """Return the line that resumes a cross-validation."""
    if not HydraConfig.initialized():
        return f"cross_validate with the same settings and out={out}"
    task = [str(item) for item in HydraConfig.get().overrides.task]
    words = [overrides.as_typed(item) for item in task if overrides.key(item) not in ("out", "fresh")]
    place = [] if str(out) == str(Path(default).absolute()) else [f"out={out}"]
    return shlex.join(["python", "-m", "koa_lightning.cross_validate", *words, *place])


def _say(result: dict[str, Any], n_folds: int) -> None:
    n = f"{result['n_knees']} knees of {result['n_patients']} patients, {n_folds} folds"
    shown = Table(title=f"out of fold: {n}", caption="sd: between folds, which share training knees; no interval")
    for name in ("fold", "knees", *_SHOWN.values()):
        shown.add_column(name, justify="right")
    for fold, own in enumerate(result["folds"]):
        shown.add_row(str(fold), str(own["n_knees"]), *(_number(own[name]) for name in _SHOWN))
    shown.add_section()
    spread = result["between_folds"]
    for key in ("mean", "sd", "min", "max"):
        shown.add_row(key, _number(spread["n_knees"][key], 1), *(_number(spread[name][key]) for name in _SHOWN))
    shown.add_section()
    shown.add_row("pooled", str(result["n_knees"]), *(_number(result[name]) for name in _SHOWN), style="bold")
    Console().print(shown)
    console.say_caveats(result["marks"])
    if line := cross_validation.no_better(Path(result["out"])):
        print(f"out of fold: {line}")
    print(DISCLAIMER)


def _number(value: float | None, digits: int = 3) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"
