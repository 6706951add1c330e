"""Store files and results on disk if `keep=FOLDER` is set; nothing else in the service stores them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from koa_lightning.serving.service.answers import Knee


def keep(folder: Path, data: bytes, knee: Knee) -> str:
    """Write a file and its result under a random name; return that name.

    Args:
        folder: The folder from `keep=`.
        data: The uploaded file.
        knee: Its result, written without pictures.

    Raises:
        OSError: The disk is full.
    """
    name = secrets.token_hex(8)
    _write(folder / f"{name}.image", data)
    _write(folder / f"{name}.json", knee.model_dump_json(indent=1, exclude={"heatmap", "picture"}).encode())
    return name


def _write(file: Path, data: bytes) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:  # this user only
        stream.write(data)
