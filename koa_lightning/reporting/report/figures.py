"""Figures that only the report draws. Research use only, not a medical device."""

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

from koa_lightning.reporting import style
from koa_lightning.reporting.figures import GRADE_NAMES
from koa_lightning.reporting.saving import save, stamp
from koa_lightning.reporting.style import INK, QUIET

Curve = tuple[np.ndarray, np.ndarray, float]
_WIDTH = 3.42  # inches: two fit side by side on a page, one fills a phone screen
_TESTS = {"map": "this method", "random": "random maps", "centre": "centre-prior maps"}


@style.drawn
def as_svg(figure: Figure) -> bytes:
    """Return a figure as SVG for the page, with text as paths, so that it looks the same everywhere."""
    stream = BytesIO()
    with rc_context({"svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def save_both(figure: Figure, folder: Path, name: str) -> bytes:
    """Write a figure in the configured formats and return it as SVG for the page. The figure is empty afterwards."""
    content = as_svg(figure)
    save(figure, folder / name)
    return content


def _axes(width: float = _WIDTH, height: float | None = None, grid: str = "both") -> tuple[Figure, Axes]:
    inches = style.inches(width)
    with sns.axes_style("ticks", {**style.GRID, "axes.grid.axis": grid}):
        figure = Figure(figsize=(inches, height or 0.85 * inches + 1.1), layout="constrained")
        axes = figure.subplots()
    return figure, axes


def _finish(figure: Figure, axes: Axes, title: str, x: str, y: str, caveats: Sequence[str]) -> Figure:
    style.figure_title(figure, title)
    axes.set_xlabel(x, color=QUIET)
    axes.set_ylabel(y, color=QUIET)
    sns.despine(ax=axes)
    stamp(figure, caveats)
    return figure


@style.drawn
def roc_figure(curves: Mapping[int, Curve], caveats: Sequence[str] = ()) -> Figure:
    """ROC of each grade against the rest.

    Args:
        curves: Grade -> false positive rate, true positive rate, area.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8)
    _of_grades(axes, curves)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    style.legend_below(figure, axes.lines, "area under the curve")
    return _finish(figure, axes, "ROC, each grade against the rest", "false positive rate", "sensitivity", caveats)


def _of_grades(axes: Axes, curves: Mapping[int, Curve]) -> None:
    for grade, (x, y, area) in curves.items():
        axes.plot(
            x, y, color=style.palette().grades[grade], linestyle=style.DASHES[grade], linewidth=1.5,
            label=f"{GRADE_NAMES[grade]}: {area:.3f}",
        )  # fmt: skip


@style.drawn
def precision_recall_figure(
    curves: Mapping[int, Curve], shares: Mapping[int, float], caveats: Sequence[str] = ()
) -> Figure:
    """Precision-recall of each grade against the rest, with short lines at the level of chance.

    Args:
        curves: Grade -> recall, precision, average precision.
        shares: Grade -> its share of the knees.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    figure, axes = _axes()
    _of_grades(axes, curves)
    for grade in curves:
        axes.plot([0.96, 1.01], [shares[grade]] * 2, color=style.palette().grades[grade], linewidth=2)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    style.legend_below(figure, axes.lines, "average precision; short lines: chance")
    return _finish(figure, axes, "Precision-recall, each grade against the rest", "recall", "precision", caveats)


@style.drawn
def forest_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], title: str, label: str, caveats: Sequence[str] = (), *,
    reference: float | None = None,
) -> Figure:  # fmt: skip
    """Forest plot: values with their intervals, one per row.

    Args:
        rows: Name and {value, low, high} of each; a row without a value stays empty.
        title: Title of the figure.
        label: Label of the value axis.
        caveats: See `koa_lightning.reporting.saving.stamp`.
        reference: A value to compare with, e.g. that of all knees.
    """
    figure, axes = _axes(5.2, 0.0, grid="x")
    main = style.palette().main
    for y, (_, entry) in enumerate(rows):
        if entry.get("low") is not None:
            axes.plot([entry["low"], entry["high"]], [y, y], color=main, linewidth=1.5, solid_capstyle="butt")
        if entry.get("value") is not None:
            axes.plot(entry["value"], y, "o", color=main, markersize=4)
    if reference is not None:
        axes.axvline(reference, color=QUIET, linewidth=1, linestyle=style.DASHES[1], zorder=0)
    names = [style.wrap(name, 0.45 * figure.get_figwidth(), style.small()) for name, _ in rows]
    lines = max(name.count("\n") + 1 for name in names)
    figure.set_figheight(1.3 + (0.6 + 1.3 * lines) * style.small() / 72 * len(rows))
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    return _finish(figure, axes, title, style.wrap(label, 0.55 * figure.get_figwidth(), style.body()), "", caveats)


@style.drawn
def coverage_figure(conformal: Mapping[str, Any], caveats: Sequence[str] = ()) -> Figure:
    """Coverage of the prediction sets by grade, against the nominal coverage.

    Args:
        conformal: What `eval` writes to `conformal.json`.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    figure, axes = _axes(grid="y")
    main, second = style.palette().main, style.palette().second
    names = []
    for grade, entry in _by_grade(conformal).items():
        names.append(f"{grade}\nn = {entry['n']}")
        if entry["coverage"] is not None:
            axes.bar(grade, entry["coverage"], color=main, alpha=0.55, width=0.62)
            axes.annotate(  # also labels a coverage of 0, which has no bar
                f"{entry['coverage']:.0%}", (grade, entry["coverage"]), xytext=(0, 2), textcoords="offset points",
                ha="center", va="bottom", fontsize=style.small(), color=INK, zorder=4,
                bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.4},
            )  # fmt: skip
        else:
            axes.annotate("no knee", (grade, 0), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                          fontsize=style.small(), color=QUIET)  # fmt: skip
    nominal = {"color": INK, "linewidth": 1.2, "linestyle": style.DASHES[1], "zorder": 2.5}  # on top
    axes.axhline(1 - conformal["alpha"], label=f"nominal coverage: {1 - conformal['alpha']:.0%}", **nominal)
    axes.axhline(conformal["coverage"], color=second, linewidth=1.8, label=f"all grades: {conformal['coverage']:.1%}")
    axes.set(ylim=(0, 1.14), xlim=(-0.6, 4.6))
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    style.legend_below(figure, axes.lines)
    return _finish(figure, axes, "Prediction sets: coverage by grade", "true grade", "coverage", caveats)


def _by_grade(conformal: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    return {int(grade): entry for grade, entry in conformal["by_grade"].items()}


@style.drawn
def answers_figure(test: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """Output of the network as pixels are deleted, or inserted, in the order of each map.

    Args:
        test: One test of `explanations.json`: `curve` with `map` and the controls.
        title: Title of the figure.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    figure, axes = _axes(grid="y")
    for (name, label), dashes in zip(_TESTS.items(), style.DASHES, strict=False):
        if name in test["curve"]:
            y = test["curve"][name]
            words = f"{label}: area {test[name]:.3f}" if test.get(name) is not None else label
            colour = style.palette().main if name == "map" else QUIET
            axes.plot(np.linspace(0, 1, len(y)), y, color=colour, linestyle=dashes, label=words)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    style.legend_below(figure, axes.lines)
    return _finish(figure, axes, title, "pixels, hottest first", "output of the network", caveats)


def layers_figure(layers: Sequence[Mapping[str, Any]], caveats: Sequence[str] = ()) -> Figure:
    """Similarity of the maps to those of the trained network as its layers are randomised from the head down.

    Args:
        layers: {layer, similarity, low, high} of each layer.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    rows = [(str(entry["layer"]), {**entry, "value": entry["similarity"]}) for entry in layers]
    title = "Model randomisation, layer by layer from the head"
    return forest_figure(rows, title, "similarity to the maps of the trained network", caveats, reference=0.0)
