"""Pictures embedded in a page. Research use only, not a medical device."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from koa_lightning.reporting import style


def uri(kind: str, content: bytes) -> str:
    """Return a picture as a data URI.

    Args:
        kind: `png`, `jpeg` or `svg+xml`.
        content: Content of the file.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(figure: Figure) -> str:
    """Return a figure as the data URI of a PNG (150 dpi)."""
    stream = BytesIO()
    with style.in_force():
        figure.savefig(stream, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return uri("png", stream.getvalue())


def jpeg(image: np.ndarray, quality: int = 82) -> str:
    """Return pixels (uint8, H x W or H x W x 3) as the data URI of a JPEG."""
    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(stream, "JPEG", quality=quality)
    return uri("jpeg", stream.getvalue())
