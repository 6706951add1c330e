"""Labels contradicted by out-of-fold probabilities (confident learning); listed for a reader, never removed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from koa_lightning.data.audit.findings import NOTE, Finding
from koa_lightning.data.oof import PROBABILITIES, joined
from koa_lightning.errors import InputError


def suspicious(rows: pd.DataFrame, oof: pd.DataFrame, where: str = "oof") -> list[Finding]:
    """Return the knees whose labels out-of-fold probabilities contradict, the strongest contradiction first.

    Confident learning (Northcutt, Jiang and Chuang 2021) by cleanlab: a knee counts for another grade if its
    probability of that grade reaches the mean probability of the knees labelled with it.

    Args:
        rows: The manifest.
        oof: path and p0 to p4; paths missing from the manifest are matched by their last three parts.
        where: For messages.

    Raises:
        InputError: No path of the table is in the manifest, the last parts of the paths are ambiguous, or cleanlab is
            not installed.
    """
    row, probabilities = joined(rows, oof, where)
    if not len(row):
        raise InputError(f"{where}: none of its paths is in the data; check that its predictions are for this data")
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise InputError("oof: requires cleanlab; type pip install 'koa-lightning[audit]', or omit oof") from None
    label = rows["grade"].to_numpy(dtype=np.int64)[row]
    # cleanlab needs classes that occur, numbered without gaps
    present = np.unique(label)
    if len(present) < 2:
        return []
    shares = probabilities[:, present]
    shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12)
    issues = find_label_issues(
        np.searchsorted(present, label),
        shares,
        filter_by="confident_learning",
        return_indices_ranked_by="normalized_margin",
        n_jobs=1,
    )
    return [_finding(rows.iloc[row[at]], int(row[at]), probabilities[at]) for at in issues]


def _finding(knee: pd.Series, row: int, probabilities: np.ndarray) -> Finding:
    label, likely = int(knee["grade"]), int(probabilities.argmax())
    words = (
        f"labelled {label} with probability {probabilities[label]:.2f}; grade {likely} has {probabilities[likely]:.2f}"
    )
    numbers = {
        "grade": label,
        "likely": likely,
        **{name: round(float(p), 4) for name, p in zip(PROBABILITIES, probabilities, strict=True)},
    }
    return Finding("suspicious_grade", NOTE, [str(knee["path"])], words, numbers, [row])
