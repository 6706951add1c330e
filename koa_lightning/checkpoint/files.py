"""Checkpoint files that are whole or not there at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch


def write_whole(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint beside its place and then move it there, so that a killed run leaves the old one whole.

    Args:
        content: Tensors and plain values.
        path: Of the file; its folder is made.

    Raises:
        OSError: The disk is full, or the like; it names the file.
    """
    file = Path(path)
    part = file.with_name(f"{file.name}.part")
    buffer = io.BytesIO()  # torch turns an error of the disk into one that does not say so
    torch.save(content, buffer)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(buffer.getbuffer())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(file)
        raise
