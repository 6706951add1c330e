"""Figures of an audit: grades, patients and sides by split, brightness and sharpness. Research use only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.reporting.figures import GRADE_NAMES, INK, QUIET, stamp

COLOURS = {"train": "#8a96a3", "val": "#0b6e99", "test": "#d9822b", "auto_test": "#a8577e", "no split": "#555f6a"}
SIDES = {"R": "#0b6e99", "L": "#7fb7cf", "unknown": "#d5dade"}
_KNEES = {"two knees": "#0b6e99", "one knee": "#7fb7cf", "more": "#d9822b"}
STATISTICS = {"brightness": "brightness (mean gray)", "sharpness": "sharpness (sd of the Laplacian)"}


def grades_figure(splits: Mapping[str, Sequence[int]], caveats: Sequence[str] = ()) -> Figure:
    """Counts by split and grade, coloured by the grade's share of its split.

    Args:
        splits: Split -> number of knees of each of the five grades.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    counts = np.array(list(splits.values()), dtype=float).reshape(len(splits), len(GRADE_NAMES))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [[f"{int(n):,}\n{s:.0%}" for n, s in zip(*row, strict=True)] for row in zip(counts, shares, strict=True)]
    with sns.axes_style("white"):
        figure = Figure(figsize=(7.6, 1.5 + 0.75 * len(splits)), layout="constrained")
        axes = figure.subplots()
    sns.heatmap(
        shares, annot=np.array(cells), fmt="", cmap=sns.light_palette("#0b6e99", as_cmap=True), vmin=0, vmax=0.6,
        linewidths=1.5, linecolor="white", cbar=False, ax=axes, annot_kws={"fontsize": 10, "linespacing": 1.3},
    )  # fmt: skip
    axes.set_xticklabels(GRADE_NAMES)
    labels = [f"{split}\n{int(n):,} knees" for split, n in zip(splits, counts.sum(axis=1), strict=True)]
    axes.set_yticklabels(labels, rotation=0)
    axes.tick_params(colors=INK, length=0)
    _title(axes, "Knees by split and grade")
    stamp(figure, caveats)
    return figure


def patients_figure(rows: pd.DataFrame, caveats: Sequence[str] = ()) -> Figure:
    """Patients with one or two knees, and sides, by split.

    Args:
        rows: The manifest: patient, side, split (empty: `no split`).
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    frame = rows.assign(split=rows["split"].where(rows["split"] != "", "no split"))
    known = frame[frame["patient"] != ""]
    knees = known.groupby(["split", "patient"]).size().rename("knees").reset_index()
    words = np.where(knees["knees"] == 2, "two knees", np.where(knees["knees"] == 1, "one knee", "more"))
    sides = frame["side"].where(frame["side"] != "", "unknown")
    with sns.axes_style("white"):
        splits = [split for split in COLOURS if (frame["split"] == split).any()]
        figure = Figure(figsize=(9.6, 1.6 + 0.5 * len(splits)), layout="constrained")
        left, right = figure.subplots(1, 2)
    _stacked(left, pd.crosstab(knees["split"], words), splits, _KNEES)
    _title(left, "Patients by split")
    _stacked(right, pd.crosstab(frame["split"], sides), splits, SIDES)
    _title(right, "Sides by split")
    stamp(figure, caveats)
    return figure


def _stacked(axes: Axes, counts: pd.DataFrame, splits: Sequence[str], colours: Mapping[str, str]) -> None:
    counts = counts.reindex(index=list(splits), columns=list(colours), fill_value=0)
    start = np.zeros(len(splits))
    for name, colour in colours.items():
        width = counts[name].to_numpy(dtype=float)
        if not width.any():
            continue
        axes.barh(list(splits), width, left=start, color=colour, label=name, height=0.62)
        for y, (x, n) in enumerate(zip(start, width, strict=True)):
            if n > 0.08 * max(1.0, counts.to_numpy().sum(axis=1).max()):
                shade = "white" if colour == "#0b6e99" else INK
                axes.text(x + n / 2, y, f"{int(n):,}", ha="center", va="center", fontsize=9, color=shade)
        start += width
    axes.invert_yaxis()
    axes.tick_params(colors=INK, length=0)
    axes.set_xticks([])
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(-0.02, 0.02))
    sns.despine(ax=axes, left=True, bottom=True)


def statistics_figure(rows: pd.DataFrame, statistics: pd.DataFrame, caveats: Sequence[str] = ()) -> Figure:
    """Distributions of brightness and sharpness, by split (smoothed densities) and by grade (boxes).

    Args:
        rows: The manifest: split, grade; unreadable rows omitted.
        statistics: Of the same rows, see `koa_lightning.data.audit.files.image_statistics`.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    split = rows["split"].where(rows["split"] != "", "no split").to_numpy()
    frame = statistics[list(STATISTICS)].assign(split=split, grade=rows["grade"].to_numpy())
    with sns.axes_style("ticks", {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}):
        figure = Figure(figsize=(9.6, 6.2), layout="constrained")
        panels = figure.subplots(2, 2)
    splits = [name for name in COLOURS if (split == name).any()]
    for (top, bottom), (name, words) in zip(panels.T, STATISTICS.items(), strict=True):
        for one in splits:
            values = frame.loc[frame["split"] == one, name]
            _density(top, values, COLOURS[one], f"{one} ({len(values):,})")
        top.set(xlabel=words, ylabel="density", yticks=[])
        top.legend(frameon=False, fontsize=8)
        _title(top, f"{name.capitalize()} by split")
        labelled = frame[frame["grade"] >= 0]
        if len(labelled):
            sns.boxplot(
                labelled, x="grade", y=name, ax=bottom, color="#bcd9e5", width=0.55, fliersize=1.5, linewidth=1,
                linecolor=INK,
            )  # fmt: skip
        bottom.set(xlabel="grade", ylabel=words)
        _title(bottom, f"{name.capitalize()} by grade")
    for axes in panels.ravel():
        axes.xaxis.label.set_color(QUIET)
        axes.yaxis.label.set_color(QUIET)
        sns.despine(ax=axes)
    stamp(figure, caveats)
    return figure


def _density(axes: Axes, values: pd.Series, colour: str, label: str) -> None:
    """Draw a smoothed density; of one value or a constant, where it has none, a line."""
    if len(values) and values.min() < values.max():
        sns.kdeplot(x=values, ax=axes, color=colour, label=label, fill=True, alpha=0.12, linewidth=1.8, cut=0)
    elif len(values):
        axes.axvline(float(values.iloc[0]), color=colour, label=label, linewidth=1.8)


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=11, fontweight="bold", color=INK)
