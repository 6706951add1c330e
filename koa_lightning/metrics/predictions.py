"""The predictions table: one row per knee, with the same columns from `eval` and `predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from koa_lightning.models import outputs

PROBABILITIES = [f"p{grade}" for grade in range(outputs.N_GRADES)]
LOGITS = [f"z{grade}" for grade in range(outputs.N_GRADES)]
COLUMNS = ["path", "patient", "side", "grade", "predicted", "expected_grade", "median_grade", *PROBABILITIES, *LOGITS]


def predictions_table(
    knees: pd.DataFrame, logits: Tensor, link: str, probabilities: Tensor | None = None
) -> pd.DataFrame:
    """Return the table of graded knees.

    Args:
        knees: path, and patient, side and grade where known (grade -1: unknown, becomes empty); other columns except
            `hash` and `split` are kept at the end.
        logits: float N x K; `corn` has four, and leaves `z4` empty.
        link: How logits become probabilities.
        probabilities: Float N x 5, calibrated by the checkpoint; None: the raw ones.
    """
    if probabilities is None:
        probabilities = outputs.probabilities(logits, link)
    table = pd.DataFrame({"path": knees["path"].to_numpy()})
    for column in ("patient", "side"):
        table[column] = knees[column].to_numpy() if column in knees else ""
    grade = knees["grade"].to_numpy() if "grade" in knees else np.full(len(knees), -1)
    table["grade"] = pd.array(grade, dtype="Int64")
    table.loc[grade < 0, "grade"] = pd.NA
    table["predicted"] = probabilities.argmax(1).numpy()
    table["expected_grade"] = outputs.expected_grade(probabilities).numpy()
    table["median_grade"] = outputs.median_grade(probabilities).numpy()
    table[PROBABILITIES] = probabilities.numpy()
    padded = np.full((len(knees), outputs.N_GRADES), np.nan, dtype=np.float32)
    padded[:, : logits.shape[1]] = logits.numpy()
    table[LOGITS] = padded
    extra = [column for column in knees.columns if column not in {*COLUMNS, "hash", "split"}]
    return pd.concat([table, knees[extra].reset_index(drop=True)], axis=1)


def write(table: pd.DataFrame, folder: Path, name: str = "predictions") -> list[Path]:
    """Write a table as CSV and Parquet; return both files."""
    files = [folder / f"{name}.csv", folder / f"{name}.parquet"]
    table.to_csv(files[0], index=False)
    table.to_parquet(files[1])
    return files


def labelled(table: pd.DataFrame) -> pd.DataFrame:
    """Return the labelled rows."""
    return table[table["grade"].notna()]


def confusion(table: pd.DataFrame) -> np.ndarray:
    """Return the counts of true (rows) and predicted (columns) grades, int64, 5 x 5, of the labelled rows."""
    rows = labelled(table)
    counts = np.zeros((outputs.N_GRADES, outputs.N_GRADES), dtype=np.int64)
    np.add.at(counts, (rows["grade"].to_numpy(dtype=np.int64), rows["predicted"].to_numpy(dtype=np.int64)), 1)
    return counts
