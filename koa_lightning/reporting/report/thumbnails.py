"""Small pictures of knees, as the network sees them, if their files still exist."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pandas as pd
from PIL import Image

from koa_lightning.data.cache import PHANTOM, decode_phantoms
from koa_lightning.data.images import read_image
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.errors import InputError
from koa_lightning.reporting.embed import jpeg, uri
from koa_lightning.reporting.report_data import ReportData

SIDE = 224  # pixels
_WIDEST = 1500  # pixels of a panel


def of_knees(found: ReportData, rows: pd.DataFrame) -> list[str]:
    """Return the data URI of each knee's picture; empty if its file can no longer be read.

    Args:
        found: The data of the report, with the model's preprocessing; without a model, knees are letterboxed.
        rows: Rows of the predictions table.
    """
    how = Preprocessing(**found.model["preprocessing"]) if found.model else Preprocessing(SIDE)
    return [_of_knee(str(path), str(side), how) for path, side in zip(rows["path"], rows["side"], strict=True)]


def _of_knee(path: str, side: str, how: Preprocessing) -> str:
    if path.startswith(PHANTOM):
        return jpeg(decode_phantoms([path], how.image_size)[0])
    if not path:
        return ""
    try:
        return jpeg(how.apply(read_image(path), side))
    except InputError:  # the page says how many have no picture
        return ""


def of_file(file: Path, widest: int = _WIDEST) -> str:
    """Return a picture file as the data URI of a JPEG, scaled down if it is too wide."""
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    if picture.width > widest:
        picture = picture.resize((widest, round(picture.height * widest / picture.width)), Image.Resampling.LANCZOS)
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return uri("jpeg", stream.getvalue())
