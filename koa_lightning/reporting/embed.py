"""Pictures inside a page, and pages written in one step. Research use only, not a medical device."""

from __future__ import annotations

import base64
import os
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def uri(kind: str, content: bytes) -> str:
    """Return a data address that holds a picture.

    Args:
        kind: `png`, `jpeg` or `svg+xml`.
        content: Of the file.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(figure: Figure) -> str:
    """Return a figure as the address of a PNG (130 dpi); the figure is empty afterwards."""
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    figure.clear()
    return uri("png", stream.getvalue())


def jpeg(image: np.ndarray, quality: int = 82) -> str:
    """Return pixels (uint8, H x W or H x W x 3) as the address of a JPEG."""
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=quality)
    return uri("jpeg", stream.getvalue())


def write(file: Path, page: str) -> Path:
    """Write a page in one step, so that no reader sees half of it; return its file."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8", errors="replace")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file
