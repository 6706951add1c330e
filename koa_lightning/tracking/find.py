"""A checkpoint by its path or its run; MLflow is imported only for the latter."""

from __future__ import annotations

from pathlib import Path


def find_checkpoint(ckpt: str, uri: str | None) -> Path:
    """Return the local file of `ckpt`: a path, or `runs:/ID[/path]` in a tracking store.

    Raises:
        InputError: No such run, or it holds no such checkpoint.
    """
    if not ckpt.startswith("runs:/"):
        return Path(ckpt).expanduser()
    from koa_lightning.tracking.checkpoints import find_checkpoint as download

    return download(ckpt, uri)
