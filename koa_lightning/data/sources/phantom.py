"""Synthetic knees, drawn by formula."""

from __future__ import annotations

import pandas as pd

from koa_lightning.data import manifest as mf
from koa_lightning.data.phantom.manifest import GRADE_SHARES, phantom_manifest


def phantom(n_patients: int, seed: int, grade_shares: list[float] | None = None) -> pd.DataFrame:
    """Return the rows of synthetic knees, two per patient; they are drawn when the cache is built."""
    rows = phantom_manifest(n_patients, seed, tuple(grade_shares) if grade_shares else GRADE_SHARES)
    return mf.make(rows, "data=phantom")
