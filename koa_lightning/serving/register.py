"""Store a run's best checkpoint in the model registry: `python -m koa_lightning.register run=ID name=koa-grader`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from koa_lightning import DISCLAIMER
from koa_lightning.checkpoint import reading
from koa_lightning.config.compose import validate
from koa_lightning.serving import registry
from koa_lightning.tracking.checkpoints import find_checkpoint
from koa_lightning.tracking.runs import find_run
from koa_lightning.tracking.store import open_store


def register(cfg: DictConfig) -> dict[str, Any]:
    """Register a run's best checkpoint as a version of a model, and let an alias point to it.

    Args:
        cfg: The config `register`, composed.

    Returns:
        `name`, `version`, `alias`, `run_id`, `marks` and `is_new`.

    Raises:
        InputError: An unknown run, one without a checkpoint, or a store that fails.
    """
    validate(cfg)

    store = open_store(cfg.tracking.uri, Path("mlruns"), create=False)
    run = find_run(store, str(cfg.run))
    read = reading.read(find_checkpoint(f"runs:/{run.info.run_id}", cfg.tracking.uri))
    read.network()  # checks that the weights fit, before the model is stored
    for caveat in read.caveats:
        print(f"WARNING: {caveat}; the version carries this caveat", file=sys.stderr)
    version, is_new = registry.register(store, run, read, str(cfg.name), cfg.alias)
    address = f"models:/{version.name}@{cfg.alias}" if cfg.alias else f"models:/{version.name}/{version.version}"
    was = "registered" if is_new else "exists already (the same checkpoint)"
    print(f"{version.name} version {version.version}: {was}, from run {run.info.run_name} ({run.info.run_id})")
    print(f"use it:   python -m koa_lightning.predict ckpt={address} input=FOLDER")
    print(f"serve it: MLFLOW_TRACKING_URI={store.name} mlflow models serve -m {address} --env-manager local")
    print(DISCLAIMER)
    return {
        "name": version.name,
        "version": int(version.version),
        "alias": cfg.alias,
        "run_id": run.info.run_id,
        "marks": read.caveats,
        "is_new": is_new,
    }
