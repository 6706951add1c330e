"""Fit a checkpoint's calibration on its validation split: `python -m koa_lightning.calibrate ckpt=FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import reading
from koa_lightning.checkpoint.fitted import Calibration
from koa_lightning.config.compose import validate
from koa_lightning.evaluation import uncertainty as trusted
from koa_lightning.evaluation.data import data_for
from koa_lightning.evaluation.grading import Member
from koa_lightning.uncertainty.fit import in_words


def calibrate(cfg: DictConfig) -> dict[str, Any]:
    """Fit calibration, conformal sets, selective prediction and the check of inputs; write them into the checkpoint.

    Args:
        cfg: The composed config `calibrate`.

    Returns:
        `method`, its parameters, and `out`.

    Raises:
        InputError: Any error that the user can fix.
    """
    validate(cfg)

    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    read = reading.read(str(cfg.ckpt))
    read.check_is_of_training("whose calibration stays as it is")
    data = data_for(cfg, read).prepare(("val",))
    graded = Member(read).grade_split(data, "val", calibrated=False)
    read = trusted.fit_into(read, data, graded, cfg.method)
    entry = read.record.fitted.calibration
    print(in_words(entry))
    looks = trusted.described(graded, data, "val") if read.reference else None
    found = trusted.evaluate_split(read, data.tables["val"], graded.logits, looks, alpha=cfg.alpha)
    caveats = list(dict.fromkeys([*read.caveats, *data.caveats]))
    written = trusted.write(found, f"{data.name}, validation split", caveats, folder)
    print("\n".join(written.lines))
    print(DISCLAIMER)
    print(f"stored in {read.path}; the results are in {folder}")
    parameters = entry.parameters if isinstance(entry, Calibration) else {}
    return {"method": read.record.fitted.method, **parameters, "out": str(folder)}
