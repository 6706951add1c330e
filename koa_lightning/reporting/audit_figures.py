"""Figures of an audit: grades, patients and sides by part, brightness and sharpness. Research use only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.reporting.figures import GRADE_NAMES, INK, QUIET, stamp

COLOURS = {"train": "#8a96a3", "val": "#0b6e99", "test": "#d9822b", "auto_test": "#a8577e", "no part": "#555f6a"}
SIDES = {"R": "#0b6e99", "L": "#7fb7cf", "unknown": "#d5dade"}
_KNEES = {"two knees": "#0b6e99", "one knee": "#7fb7cf", "more": "#d9822b"}
MEASURES = {"brightness": "brightness (mean gray)", "sharpness": "sharpness (sd of the Laplacian)"}


def grades_figure(parts: Mapping[str, Sequence[int]], marks: Sequence[str] = ()) -> Figure:
    """Counts by part and grade, coloured by the grade's share of its part.

    Args:
        parts: Part -> number of knees of each of the five grades.
        marks: See `koa_lightning.reporting.figures.stamp`.
    """
    counts = np.array(list(parts.values()), dtype=float).reshape(len(parts), len(GRADE_NAMES))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cells = [[f"{int(n):,}\n{s:.0%}" for n, s in zip(*row, strict=True)] for row in zip(counts, shares, strict=True)]
    with sns.axes_style("white"):
        figure = Figure(figsize=(7.6, 1.5 + 0.75 * len(parts)), layout="constrained")
        axes = figure.subplots()
    sns.heatmap(
        shares, annot=np.array(cells), fmt="", cmap=sns.light_palette("#0b6e99", as_cmap=True), vmin=0, vmax=0.6,
        linewidths=1.5, linecolor="white", cbar=False, ax=axes, annot_kws={"fontsize": 10, "linespacing": 1.3},
    )  # fmt: skip
    axes.set_xticklabels(GRADE_NAMES)
    labels = [f"{part}\n{int(n):,} knees" for part, n in zip(parts, counts.sum(axis=1), strict=True)]
    axes.set_yticklabels(labels, rotation=0)
    axes.tick_params(colors=INK, length=0)
    _title(axes, "Knees by part and grade")
    stamp(figure, marks)
    return figure


def patients_figure(rows: pd.DataFrame, marks: Sequence[str] = ()) -> Figure:
    """Patients with one or two knees, and sides, by part.

    Args:
        rows: The manifest: patient, side, split (empty: `no part`).
        marks: See `koa_lightning.reporting.figures.stamp`.
    """
    frame = rows.assign(split=rows["split"].where(rows["split"] != "", "no part"))
    known = frame[frame["patient"] != ""]
    knees = known.groupby(["split", "patient"]).size().rename("knees").reset_index()
    words = np.where(knees["knees"] == 2, "two knees", np.where(knees["knees"] == 1, "one knee", "more"))
    sides = frame["side"].where(frame["side"] != "", "unknown")
    with sns.axes_style("white"):
        parts = [part for part in COLOURS if (frame["split"] == part).any()]
        figure = Figure(figsize=(9.6, 1.6 + 0.5 * len(parts)), layout="constrained")
        left, right = figure.subplots(1, 2)
    _stacked(left, pd.crosstab(knees["split"], words), parts, _KNEES)
    _title(left, "Patients by part")
    _stacked(right, pd.crosstab(frame["split"], sides), parts, SIDES)
    _title(right, "Sides by part")
    stamp(figure, marks)
    return figure


def _stacked(axes: Axes, counts: pd.DataFrame, parts: Sequence[str], colours: Mapping[str, str]) -> None:
    counts = counts.reindex(index=list(parts), columns=list(colours), fill_value=0)
    start = np.zeros(len(parts))
    for name, colour in colours.items():
        width = counts[name].to_numpy(dtype=float)
        if not width.any():
            continue
        axes.barh(list(parts), width, left=start, color=colour, label=name, height=0.62)
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


def measures_figure(rows: pd.DataFrame, measured: pd.DataFrame, marks: Sequence[str] = ()) -> Figure:
    """Distributions of brightness and sharpness, by part (smoothed densities) and by grade (boxes).

    Args:
        rows: The manifest: split, grade; unreadable rows left out.
        measured: Of the same rows, see `koa_lightning.data.audit.files.measure`.
        marks: See `koa_lightning.reporting.figures.stamp`.
    """
    part = rows["split"].where(rows["split"] != "", "no part").to_numpy()
    frame = measured[list(MEASURES)].assign(part=part, grade=rows["grade"].to_numpy())
    with sns.axes_style("ticks", {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}):
        figure = Figure(figsize=(9.6, 6.2), layout="constrained")
        panels = figure.subplots(2, 2)
    parts = [name for name in COLOURS if (part == name).any()]
    for (top, bottom), (name, words) in zip(panels.T, MEASURES.items(), strict=True):
        for one in parts:
            values = frame.loc[frame["part"] == one, name]
            _density(top, values, COLOURS[one], f"{one} ({len(values):,})")
        top.set(xlabel=words, ylabel="density", yticks=[])
        top.legend(frameon=False, fontsize=8)
        _title(top, f"{name.capitalize()} by part")
        known = frame[frame["grade"] >= 0]
        if len(known):
            sns.boxplot(
                known, x="grade", y=name, ax=bottom, color="#bcd9e5", width=0.55, fliersize=1.5, linewidth=1,
                linecolor=INK,
            )  # fmt: skip
        bottom.set(xlabel="grade", ylabel=words)
        _title(bottom, f"{name.capitalize()} by grade")
    for axes in panels.ravel():
        axes.xaxis.label.set_color(QUIET)
        axes.yaxis.label.set_color(QUIET)
        sns.despine(ax=axes)
    stamp(figure, marks)
    return figure


def _density(axes: Axes, values: pd.Series, colour: str, label: str) -> None:
    """Draw a smoothed density; of one value or a constant, where it has none, a line."""
    if len(values) and values.min() < values.max():
        sns.kdeplot(x=values, ax=axes, color=colour, label=label, fill=True, alpha=0.12, linewidth=1.8, cut=0)
    elif len(values):
        axes.axvline(float(values.iloc[0]), color=colour, label=label, linewidth=1.8)


def _title(axes: Axes, words: str) -> None:
    axes.set_title(words, loc="left", fontsize=11, fontweight="bold", color=INK)
