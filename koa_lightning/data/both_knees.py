"""Films of both knees among data in which each picture counts as one knee: detection and warning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from koa_lightning.data.dicom.header import read_header
from koa_lightning.data.images import is_dicom, read_bytes
from koa_lightning.data.prepare.films import shows_both_knees
from koa_lightning.errors import InputError

PREPARE = "python -m koa_lightning.prepare input=FOLDER output=OTHER"


def shown(image: np.ndarray, path: str) -> bool:
    """Tell whether a picture shows both knees. A side in a DICOM header means one knee, as in `prepare`.

    Args:
        image: uint8 H x W, bone bright.
        path: Of its file, or its name in the source.
    """
    if not shows_both_knees(image):
        return False
    if not Path(path).is_file():  # the source provides the pixels itself
        return True
    try:
        data = read_bytes(Path(path))
        return not (is_dicom(data, path) and read_header(data, path, burnt_in=True).side)
    except InputError:  # e.g. a lateral view; `prepare` reports it
        return True


def words(paths: Sequence[str], n: int) -> str:
    """Return one line with the number of pictures that show both knees, an example and advice.

    Args:
        paths: Of the pictures with both knees, at least one.
        n: Number of all pictures.
    """
    return (
        f"{len(paths)} of {n} pictures show both knees but count as one, e.g. {paths[0]}; cut them into knees with "
        f"{PREPARE}, then use data=table data.table=OTHER/knees.csv"
    )
