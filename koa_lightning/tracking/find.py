"""Find a checkpoint by its path, its run, or its registered model; MLflow is imported only for the latter two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koa_lightning import pretrained
from koa_lightning.checkpoint import find
from koa_lightning.config.places import user_path


def find_checkpoint(ckpt: str, uri: str | None) -> Path:
    """Return the local file of `ckpt`: `pretrained`, a path, or in a store `runs:/ID[/path]`, `models:/NAME@ALIAS`.

    Args:
        ckpt: As typed.
        uri: Address of the tracking store; None means the default one.

    Raises:
        InputError: No such run or model, or it holds no such checkpoint.
    """
    if ckpt == pretrained.NAME:
        return pretrained.file()
    if not ckpt.startswith(find.ADDRESSES):
        return user_path(ckpt)
    from koa_lightning.tracking.checkpoints import find_checkpoint as download

    return download(ckpt, uri)


def find_checkpoints(ckpt: Any, uri: str | None) -> list[Path]:
    """Return the local files of all checkpoints that `ckpt` names, see `koa_lightning.checkpoint.find.find`.

    Args:
        ckpt: As typed; `runs:/ID` of a cross-validation names the best checkpoint of each fold.
        uri: Address of the tracking store; None means the default one.

    Raises:
        InputError: One of them names no checkpoint, or a checkpoint is named twice.
    """

    def fetch(address: str) -> list[Path]:
        from koa_lightning.tracking.checkpoints import fold_addresses

        folds = fold_addresses(address, uri) if address.startswith("runs:/") else []
        return [find_checkpoint(each, uri) for each in folds or [address]]

    return find.find(ckpt, fetch)
