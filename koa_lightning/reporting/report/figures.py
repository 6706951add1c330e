"""Figures of the report that no other part of the house draws. Research use only, not a medical device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from koa_lightning.reporting.figures import GRADE_NAMES, INK, QUIET, save, stamp

COLOUR, SECOND = "#0b6e99", "#c46a1b"
GRADE_COLOURS = ("#7a8794", "#4aa3c7", "#0b6e99", "#d9822b", "#a3243b")
Curve = tuple[np.ndarray, np.ndarray, float]
_SIZE = (4.6, 4.5)  # inches: two stand side by side on a page, one fills a telephone
_TESTS = {"map": "this method", "random": "random maps", "centre": "centre-prior maps"}


def save_both(figure: Figure, folder: Path, name: str) -> bytes:
    """Write a figure as NAME.png (150 dpi) and NAME.svg; return the SVG. The figure is empty afterwards.

    Letters are drawn as paths, so that it looks the same everywhere; the same figure gives the same files.
    """
    stream = BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "koa-lightning"}):
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.svg").write_bytes(stream.getvalue())
    save(figure, folder / f"{name}.png")
    return stream.getvalue()


def _axes(size: tuple[float, float] = _SIZE, grid: str = "both") -> tuple[Figure, Axes]:
    with sns.axes_style("ticks", {"axes.grid": True, "axes.grid.axis": grid, "grid.color": "#e8ebee"}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
    return figure, axes


def _finish(figure: Figure, axes: Axes, title: str, x: str, y: str, caveats: Sequence[str]) -> Figure:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x, color=QUIET)
    axes.set_ylabel(y, color=QUIET)
    sns.despine(ax=axes)
    stamp(figure, caveats)
    return figure


def roc_figure(curves: Mapping[int, Curve], caveats: Sequence[str] = ()) -> Figure:
    """ROC of each grade against the rest.

    Args:
        curves: Grade -> false positive rate, true positive rate, area.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    for grade, (x, y, area) in curves.items():
        axes.plot(x, y, color=GRADE_COLOURS[grade], linewidth=1.6, label=f"{GRADE_NAMES[grade]}: {area:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(frameon=False, fontsize=8, loc="lower right", title="area", title_fontsize=8)
    return _finish(figure, axes, "ROC, each grade against the rest", "false positive rate", "sensitivity", caveats)


def precision_recall_figure(
    curves: Mapping[int, Curve], shares: Mapping[int, float], caveats: Sequence[str] = ()
) -> Figure:
    """Precision-recall of each grade against the rest, with short lines at what chance would reach.

    Args:
        curves: Grade -> recall, precision, average precision.
        shares: Grade -> its share of the knees.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    figure, axes = _axes()
    for grade, (x, y, area) in curves.items():
        colour = GRADE_COLOURS[grade]
        axes.plot(x, y, color=colour, linewidth=1.6, label=f"{GRADE_NAMES[grade]}: {area:.3f}")
        axes.plot([0.96, 1.01], [shares[grade]] * 2, color=colour, linewidth=2)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(
        framealpha=0.85, edgecolor="none", fontsize=8, loc="lower left", title="average precision", title_fontsize=8
    )
    return _finish(figure, axes, "Precision-recall, each grade against the rest", "recall", "precision", caveats)


def forest_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], title: str, label: str, caveats: Sequence[str] = (), *,
    reference: float | None = None,
) -> Figure:  # fmt: skip
    """Values with their intervals below each other.

    Args:
        rows: Name and {value, low, high} each; one without a value is left empty.
        title: Of the figure.
        label: What is measured.
        caveats: See `koa_lightning.reporting.figures.stamp`.
        reference: A value to compare with, e.g. that of all knees.
    """
    figure, axes = _axes((6.6, 1.5 + 0.3 * len(rows)), grid="x")
    for y, (_, entry) in enumerate(rows):
        if entry.get("low") is not None:
            axes.plot([entry["low"], entry["high"]], [y, y], color=COLOUR, linewidth=1.6, solid_capstyle="butt")
        if entry.get("value") is not None:
            axes.plot(entry["value"], y, "o", color=COLOUR, markersize=5)
    if reference is not None:
        axes.axvline(reference, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    return _finish(figure, axes, title, label, "", caveats)


def coverage_figure(conformal: Mapping[str, Any], caveats: Sequence[str] = ()) -> Figure:
    """Coverage of the prediction sets by grade, against the nominal coverage.

    Args:
        conformal: What `eval` writes to `conformal.json`.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    figure, axes = _axes(grid="y")
    for grade, entry in _by_grade(conformal).items():
        if entry["coverage"] is not None:
            axes.bar(grade, entry["coverage"], color=GRADE_COLOURS[grade], width=0.62)
            axes.text(grade, 0.02, f"n = {entry['n']}", ha="center", va="bottom", fontsize=8, color="white")
    axes.axhline(1 - conformal["alpha"], color=INK, linewidth=1.2, linestyle=(0, (4, 3)), label="nominal coverage")
    axes.axhline(conformal["coverage"], color=SECOND, linewidth=1.2, label=f"all grades: {conformal['coverage']:.1%}")
    axes.set(ylim=(0, 1.12), xticks=range(5))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    return _finish(figure, axes, "Prediction sets: coverage by grade", "true grade", "coverage", caveats)


def _by_grade(conformal: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    return {int(grade): entry for grade, entry in conformal["by_grade"].items()}


def answers_figure(test: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """The answer of the network while pixels are deleted, or inserted, in the order of each map.

    Args:
        test: Of `explanations.json`: `curve` with `map` and the controls.
        title: Of the figure.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    figure, axes = _axes(grid="y")
    for (name, label), style in zip(_TESTS.items(), ("-", (0, (4, 2)), (0, (1, 1.5))), strict=True):
        if name in test["curve"]:
            y = test["curve"][name]
            words = f"{label}: area {test[name]:.3f}" if test.get(name) is not None else label
            axes.plot(
                np.linspace(0, 1, len(y)), y, color=COLOUR if name == "map" else QUIET, linestyle=style, label=words
            )
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(frameon=False, fontsize=8)
    return _finish(figure, axes, title, "pixels, the hottest first", "answer of the network", caveats)


def layers_figure(layers: Sequence[Mapping[str, Any]], caveats: Sequence[str] = ()) -> Figure:
    """Likeness of the maps to those of the trained network while its layers are randomised from the top.

    Args:
        layers: layer, similarity, low, high each.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    rows = [(str(entry["layer"]), {**entry, "value": entry["similarity"]}) for entry in layers]
    title = "Model randomisation, layer by layer from the head"
    return forest_figure(rows, title, "likeness to the maps of the trained network", caveats, reference=0.0)
