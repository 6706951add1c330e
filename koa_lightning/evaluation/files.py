"""The names of the files that an evaluation writes, and their removal before the next evaluation of the folder."""

from __future__ import annotations

from pathlib import Path

from koa_lightning.config import heat_maps
from koa_lightning.config.figures import FORMATS
from koa_lightning.config.places import user_path

_TABLES = ("predictions", "subgroups", "readers", "ensemble", "explanations")
_METRICS = ("metrics", "intervals", "thresholds", "calibration", "conformal", "abstention", "inputs", "evaluation")
_FIGURES = ("confusion_matrix", "reliability", "risk_coverage", "explanations")
_PANELS = ("panel_by_grade", "panel_by_mistake", "panel_most_certain", "panel_least_certain")
# Figures that only a report draws. Those that a training also draws, into its own figures/, every report rewrites.
_DRAWN = (
    "roc", "precision_recall", "subgroups", "prediction_sets", "deletion", "insertion", "road", "randomisation",
)  # fmt: skip
NAMES = (
    *(f"{name}.{kind}" for name in _TABLES for kind in ("csv", "json", "parquet")),
    *(f"{name}.json" for name in _METRICS),
    *(f"{name}.{kind}" for name in (*_FIGURES, *_PANELS) for kind in FORMATS),
    "report.html",
    "report.json",
    *(f"figures/{name}.{kind}" for name in _DRAWN for kind in FORMATS),
    "members/[0-9]*.parquet",
)
"""Paths below the folder, without the file of interrupted explanation tests: they resume from it."""


def remove(folder: Path, *given: str | None) -> None:
    """Remove what an earlier evaluation wrote, so that no report mixes two.

    Args:
        folder: The folder of the evaluation that is about to write.
        given: Files that it reads (thresholds, a table), or their folders; these files are kept.
    """
    read = {user_path(each).resolve() for each in given if each}
    read |= {each / name for each in read for name in ("thresholds.json", "predictions.csv", "predictions.parquet")}
    drawn = [f"{name}.{kind}" for name in heat_maps.names() for kind in FORMATS]
    for file in [file for name in (*NAMES, *drawn) for file in folder.glob(name)]:
        if file.is_file() and file.resolve() not in read:
            file.unlink()
