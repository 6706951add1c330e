"""Fit a checkpoint's calibration on its validation part: `python -m koa_lightning.calibrate ckpt=FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import record
from koa_lightning.config.compose import validate
from koa_lightning.evaluation import uncertainty as trusted
from koa_lightning.evaluation.data import data_of
from koa_lightning.models.inference import check_finite, grade_batches
from koa_lightning.uncertainty import out_of_distribution
from koa_lightning.uncertainty.fit import in_words


def calibrate(cfg: DictConfig) -> dict[str, Any]:
    """Fit calibration, prediction sets, abstention and the check of inputs, and write them into the checkpoint.

    Args:
        cfg: The config `calibrate`, composed.

    Returns:
        `method`, its parameters, and `out`.

    Raises:
        InputError: Whatever the user can put right.
    """
    validate(cfg)

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    read = record.read(str(cfg.ckpt))
    data = data_of(cfg, read, "val")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = read.network().to(device)
    with out_of_distribution.watching(net) as features:
        logits = torch.cat(list(grade_batches(net, data.val_dataloader(), device)))
    check_finite(logits, read.path)
    read = trusted.fit_into(read, data, logits, features, cfg.method)
    print(in_words(read.record))
    described = trusted.look(data, "val", features) if read.inputs else None
    measured = trusted.measure_part(read, data.tables["val"], logits, described, alpha=cfg.alpha)
    marks = list(dict.fromkeys([*read.marks, *data.marks]))
    written = trusted.write(measured, f"{data.name}, validation part", marks, folder)
    print("\n".join(written.lines))
    print(DISCLAIMER)
    print(f"stored in {read.path}; what was measured is in {folder}")
    entry = read.record["calibration"]
    return {"method": entry.get("method", "none"), **entry.get("parameters", {}), "out": str(folder)}
