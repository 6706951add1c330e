"""Write checkpoint files atomically: a file is complete or absent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch


def write_whole(content: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint to a temporary file and move it into place, so that a killed run leaves the old one intact.

    Args:
        content: Tensors and plain values.
        path: The file; its folder is created.

    Raises:
        OSError: Writing failed, e.g. because the disk is full; the error names the file.
    """
    file = Path(path)
    part = file.with_name(f"{file.name}.part")
    buffer = io.BytesIO()  # torch replaces a disk error by one that hides the cause
    torch.save(content, buffer)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(buffer.getbuffer())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = str(file)
        raise
