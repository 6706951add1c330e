"""Evaluate the complete trials of a sweep as one grader, on the validation split with mirrored images averaged."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import find
from koa_lightning.config import json_files, run_files
from koa_lightning.config.compose import compose
from koa_lightning.config.overrides import quote
from koa_lightning.evaluation.evaluate import evaluate

if TYPE_CHECKING:
    from optuna import Study

FOLDER = "ensemble"  # in the folder of the sweep
_SHOWN = ("accuracy", "quadratic_kappa", "mae")


def checkpoints(study: Study, folder: Path) -> list[Path]:
    """Return the best checkpoint of each repeat of each complete trial.

    Args:
        study: Study of the sweep.
        folder: Folder of the runs.
    """
    runs = []
    for trial in study.trials:
        if trial.state.name == "COMPLETE":
            n = len(trial.user_attrs.get("values") or [])
            runs += [f"{trial.number}-{repeat}" for repeat in range(n)] if n > 1 else [f"{trial.number}"]
    return [folder / run / find.BEST for run in runs]


def measure(study: Study, config: DictConfig, folder: Path) -> None:
    """Evaluate them as `koa_lightning.eval` would, and print the result; print an earlier result again.

    Args:
        study: Study of the sweep.
        config: Config of one job, for its tracking.
        folder: Folder of the runs.
    """
    files, out = checkpoints(study, folder), folder / FOLDER
    if len(files) < 2:
        print("ensemble: needs at least two complete trials; nothing was evaluated", flush=True)
        return
    metrics = _evaluated_before(files, out)
    if metrics is None:
        metrics = _evaluate(files, config, out, study.user_attrs)
    said = ", ".join(f"{name} {metrics[name]:.3f}" for name in _SHOWN if metrics.get(name) is not None)
    print(f"ensemble of {len(files)} on the validation split, mirrored images averaged: {said}; in {out}", flush=True)
    ckpt = shlex.quote(f"ckpt={_typed(files, folder)}")
    print(f"  python -m koa_lightning.eval {ckpt} split=test tta=flip", flush=True)


def _typed(files: Sequence[Path], folder: Path) -> str:
    """Return the value of `ckpt` for these files: a pattern, unless other trials left checkpoints too."""
    is_all = set(files) == set(folder.glob(f"*/{find.BEST}"))
    return str(Path(glob.escape(str(folder)), "*", find.BEST)) if is_all else find.typed(files)


def _evaluated_before(files: Sequence[Path], out: Path) -> dict[str, Any] | None:
    """Return the earlier metrics of exactly these members; None if they were not evaluated."""
    facts = out / "ensemble.json"
    if not facts.is_file():
        return None
    found = json_files.read(facts, run_files.ENSEMBLE, "remove it, and the members are evaluated again")
    metrics: dict[str, Any] = found["ensemble"]
    return metrics if [member["checkpoint"] for member in found["members"]] == list(map(str, files)) else None


def _evaluate(files: Sequence[Path], config: DictConfig, out: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    tracking = {"system_metrics": False, "parent": facts.get("koa_parent_run") or None}
    cfg = compose("eval", ["split=val", "tta=flip", f"quiet={config.quiet}", f"out={quote(str(out))}"])
    cfg.ckpt = list(map(str, files))
    cfg.tracking = OmegaConf.merge(config.tracking, tracking)
    return evaluate(cfg)
