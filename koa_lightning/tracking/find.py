"""A checkpoint by its path, its run, or its registered model; MLflow is imported only for the latter two."""

from __future__ import annotations

from pathlib import Path


def find_checkpoint(ckpt: str, uri: str | None) -> Path:
    """Return the local file of `ckpt`: a path, or in a tracking store `runs:/ID[/path]` or `models:/NAME@ALIAS`.

    Raises:
        InputError: No such run or model, or it holds no such checkpoint.
    """
    if not ckpt.startswith(("runs:/", "models:/")):
        return Path(ckpt).expanduser()
    from koa_lightning.tracking.checkpoints import find_checkpoint as download

    return download(ckpt, uri)
