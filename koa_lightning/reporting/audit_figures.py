"""Figures of an audit: grades, patients and sides by split, brightness and sharpness. Research use only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from koa_lightning.reporting import style
from koa_lightning.reporting.figures import GRADE_NAMES
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, PALE, QUIET

SPLITS = ("train", "val", "test", "auto_test", "no split")
STATISTICS = {"brightness": "brightness (mean gray)", "sharpness": "sharpness (sd of the Laplacian)"}


@style.drawn
def grades_figure(splits: Mapping[str, Sequence[int]], caveats: Sequence[str] = ()) -> Figure:
    """Counts by split and grade, coloured by the grade's share of its split.

    Args:
        splits: Split -> number of knees of each of the five grades.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    counts = np.array(list(splits.values()), dtype=float).reshape(len(splits), len(GRADE_NAMES))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [[f"{int(n):,}\n{s:.0%}" for n, s in zip(*row, strict=True)] for row in zip(counts, shares, strict=True)]
    width = style.inches(5.6)
    with sns.axes_style("white"):
        figure = Figure(figsize=(width, 1.1 + 0.42 * len(splits)), layout="constrained")
        axes = figure.subplots()
    sns.heatmap(
        shares, annot=np.array(cells), fmt="", cmap=style.palette().shades, vmin=0, vmax=0.6, linewidths=1.2,
        linecolor="white", cbar=False, ax=axes, annot_kws={"fontsize": style.small(), "linespacing": 1.2},
    )  # fmt: skip
    axes.set_xticklabels([name.replace(" ", "\n") if width > 4 else name[0] for name in GRADE_NAMES])
    labels = [f"{split}\n{int(n):,} knees" for split, n in zip(splits, counts.sum(axis=1), strict=True)]
    axes.set_yticklabels(labels, rotation=0)
    axes.tick_params(colors=INK, length=0)
    style.figure_title(figure, "Knees by split and grade")
    stamp(figure, caveats)
    return figure


@style.drawn
def patients_figure(rows: pd.DataFrame, caveats: Sequence[str] = ()) -> Figure:
    """Patients with one or two knees, and sides, by split.

    Args:
        rows: The manifest: patient, side, split (empty: `no split`).
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    frame = rows.assign(split=rows["split"].where(rows["split"] != "", "no split"))
    known = frame[frame["patient"] != ""]
    knees = known.groupby(["split", "patient"]).size().rename("knees").reset_index()
    words = np.where(knees["knees"] == 2, "two knees", np.where(knees["knees"] == 1, "one knee", "more"))
    sides = frame["side"].where(frame["side"] != "", "unknown")
    splits = [split for split in SPLITS if (frame["split"] == split).any()]
    width = style.inches(6.85)
    columns = style.columns(width, 2.9, 2)
    with sns.axes_style("white"):
        figure = Figure(figsize=(width, (0.75 + 0.3 * len(splits)) * (2 // columns) + 0.3), layout="constrained")
        left, right = figure.subplots(2 // columns, columns, squeeze=False).ravel()
    main, second = style.palette().main, style.palette().second
    _stacked(left, pd.crosstab(knees["split"], words), splits, {"two knees": main, "one knee": PALE, "more": second})
    _stacked(right, pd.crosstab(frame["split"], sides), splits, {"R": main, "L": PALE, "unknown": "#eceff1"})
    for axes, title in ((left, "Patients by split"), (right, "Sides by split")):
        style.panel_title(axes, title, width / columns - 0.8, pad=style.small() * 1.6 + 6)
    stamp(figure, caveats)
    return figure


def _stacked(axes: Axes, counts: pd.DataFrame, splits: Sequence[str], colours: Mapping[str, str]) -> None:
    counts = counts.reindex(index=list(splits), columns=list(colours), fill_value=0)
    start = np.zeros(len(splits))
    for name, colour in colours.items():
        width = counts[name].to_numpy(dtype=float)
        if not width.any():
            continue
        axes.barh(
            list(splits), width, left=start, color=colour, edgecolor=QUIET, linewidth=0.4, label=name, height=0.62
        )
        for y, (x, n) in enumerate(zip(start, width, strict=True)):
            if n > 0.16 * max(1.0, counts.to_numpy().sum(axis=1).max()):
                shade = "white" if colour in (style.palette().main, style.palette().second) else INK
                axes.text(x + n / 2, y, f"{int(n):,}", ha="center", va="center", fontsize=style.small(), color=shade)
        start += width
    axes.invert_yaxis()
    axes.tick_params(colors=INK, length=0)
    axes.set_xticks([])
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, handlelength=1.2, columnspacing=1)
    sns.despine(ax=axes, left=True, bottom=True)


@style.drawn
def statistics_figure(rows: pd.DataFrame, statistics: pd.DataFrame, caveats: Sequence[str] = ()) -> Figure:
    """Distributions of brightness and sharpness, by split (smoothed densities) and by grade (box plots).

    Args:
        rows: The manifest without unreadable rows: split, grade.
        statistics: Statistics of the same rows, see `koa_lightning.data.audit.files.image_statistics`.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    split = rows["split"].where(rows["split"] != "", "no split").to_numpy()
    frame = statistics[list(STATISTICS)].assign(split=split, grade=rows["grade"].to_numpy())
    width = style.inches(6.85)
    columns = style.columns(width, 1.5, 2)
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(width, 1.85 * (4 // columns) + 0.5), layout="constrained")
        panels = figure.subplots(4 // columns, columns, squeeze=False).ravel()
    places = ((0, 2), (1, 3)) if columns == 2 else ((0, 1), (2, 3))
    pairs = [(panels[top], panels[bottom]) for top, bottom in places]
    splits = [name for name in SPLITS if (split == name).any()]
    room = width / columns - 0.5
    curves: dict[str, Line2D] = {}
    for (top, bottom), (name, words) in zip(pairs, STATISTICS.items(), strict=True):
        for one in splits:
            values = frame.loc[frame["split"] == one, name]
            look = SPLITS.index(one)
            colour = style.palette().series[-1 - look] if look == 4 else style.palette().series[(1, 4, 2, 3)[look]]
            line = {"color": colour, "linestyle": style.DASHES[look], "linewidth": 1.5}
            _density(top, values, line)
            curves[one] = Line2D([], [], label=f"{one} ({len(values):,})", **line)
        top.set(xlabel=style.wrap(words, room - 0.3, style.body()), ylabel="density", yticks=[])
        style.panel_title(top, f"{name.capitalize()} by split", room)
        labelled = frame[frame["grade"] >= 0]
        if len(labelled):
            sns.boxplot(
                labelled, x="grade", y=name, ax=bottom, color=PALE, width=0.55, fliersize=1.2, linewidth=0.8,
                linecolor=INK,
            )  # fmt: skip
        bottom.set(xlabel="grade", ylabel=style.wrap(words, 1.25, style.body()))
        style.panel_title(bottom, f"{name.capitalize()} by grade", room)
    for axes in panels:
        axes.xaxis.label.set_color(QUIET)
        axes.yaxis.label.set_color(QUIET)
        sns.despine(ax=axes)
    style.legend_below(figure, list(curves.values()))
    stamp(figure, caveats)
    return figure


def _density(axes: Axes, values: pd.Series, line: dict[str, Any]) -> None:
    """Draw a smoothed density, or a line if all values are equal."""
    if len(values) and values.min() < values.max():
        sns.kdeplot(x=values, ax=axes, cut=0, **line)
    elif len(values):
        axes.axvline(float(values.iloc[0]), **line)
