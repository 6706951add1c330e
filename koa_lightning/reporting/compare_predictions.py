"""Compare two models on the same knees: `python -m koa_lightning.compare_predictions A B`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import nearest, validate
from koa_lightning.config.metrics import chosen
from koa_lightning.config.typed import SIDES
from koa_lightning.errors import InputError
from koa_lightning.metrics import comparison, weighted
from koa_lightning.metrics.graded import of_table
from koa_lightning.metrics.tables import read_predictions
from koa_lightning.reporting.console import say_comparison


def compare_predictions(cfg: DictConfig) -> dict[str, Any]:
    """Compare two predictions tables; write `comparison.csv` and `comparison.json`.

    Args:
        cfg: The config `compare_predictions`, composed.

    Returns:
        `n_knees`, `n_patients`, `differences` (name to plain values), `out`.

    Raises:
        InputError: A table or a setting is wrong, and the user can fix it.
    """
    validate(cfg)

    only = _metrics(cfg.metrics)
    paths = [str(cfg[side]) for side in SIDES]
    tables = [read_predictions(path, logits=cfg.logits) for path in paths]
    first, second = comparison.match(tables[0], tables[1], (paths[0], paths[1]))
    found = comparison.compare(first, second, n_resamples=cfg.n_resamples, seed=cfg.seed, only=only)
    knees = of_table(first)
    result = {
        "first": paths[0],
        "second": paths[1],
        "n_knees": len(knees.grade),
        "n_patients": knees.n_patients,
        "n_resamples": cfg.n_resamples,
        "differences": comparison.to_json(found),
    }
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    comparison.to_table(found).to_csv(folder / "comparison.csv", index=False)
    (folder / "comparison.json").write_text(json.dumps(result, indent=1))
    say_comparison(
        found, {"A": paths[0], "B": paths[1]}, f"{result['n_knees']} knees of {result['n_patients']} patients"
    )
    print(DISCLAIMER)
    print(f"written to {folder}")
    return {**result, "out": str(folder)}


def _metrics(asked: str | Sequence[str] | None) -> list[str]:
    if asked is None:
        return chosen("compared")
    only = [asked] if isinstance(asked, str) else [str(name) for name in asked]
    known = weighted.names(("", "_expected", "_median"))
    if unknown := [name for name in only if name not in known]:
        raise InputError(
            f"metrics={unknown[0]}: no such metric{nearest(unknown[0], known)} (e.g. {', '.join(known[:9])})"
        )
    if not only:
        raise InputError("metrics=[]: name at least one, or omit the key")
    return only
