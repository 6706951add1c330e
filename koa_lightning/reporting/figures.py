"""Figures of a run: confusion matrix and learning curves. Research use only, not a medical device.

No figure here belongs to pyplot, so none stays open, and drawing from a training process or a thread is safe.
"""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from koa_lightning import DISCLAIMER
from koa_lightning.errors import InputError
from koa_lightning.metrics.definitions.accuracy import accuracy as accuracy_of
from koa_lightning.metrics.definitions.quadratic_kappa import quadratic_kappa

GRADE_NAMES = ("0 none", "1 doubtful", "2 minimal", "3 moderate", "4 severe")
CAVEAT_COLOUR = "#b3261e"
INK, QUIET = "#22282f", "#6b7580"
SPLIT_COLOURS = {"train": "#8a96a3", "val": "#0b6e99"}
CURVES = {
    "loss": "loss",
    "quadratic_kappa": "quadratic kappa",
    "accuracy": "accuracy",
    "mae": "mean absolute error (grades)",
}


def stamp(figure: Figure, caveats: Sequence[str] = ()) -> None:
    """Print caveats (bold, red) and the research-use sentence along the bottom, in a margin kept free for them.

    A second stamp replaces the first. It comes last: from then on every text is shown as it is, formulas included.

    Args:
        figure: Any figure; its layout is moved up by the height of the text.
        caveats: Short reasons why the figure is less than it looks, e.g. "phantom data".
    """
    for old in [text for text in figure.texts if text.get_gid() == "stamp"]:
        old.remove()
    width, height = figure.get_size_inches()
    line = 0.17 / height  # one line of 8 point with its leading, in figure shares
    wrapped = textwrap.wrap("  ·  ".join(caveats), width=max(20, int(12 * width)))
    style: dict[str, Any] = {"ha": "left", "va": "bottom", "fontsize": 8, "gid": "stamp"}
    left, bottom = 0.12 / width, 0.08 / height
    figure.text(left, bottom, DISCLAIMER, color=QUIET, **style)
    for row, text in enumerate(reversed(wrapped), start=1):
        figure.text(left, bottom + row * line, text, color=CAVEAT_COLOUR, fontweight="bold", **style)
    top = bottom + (len(wrapped) + 1) * line + 0.06 / height
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, top, 1, 1 - top), w_pad=0.1, h_pad=0.1)
    else:
        labels = 0.5 / height  # tick labels and axis label of the lowest axes
        figure.subplots_adjust(bottom=max(figure.subplotpars.bottom, top + labels))
    _take_literally(figure)


def _take_literally(figure: Figure) -> None:
    """Let no text be a formula: names of files, groups and runs may hold dollar signs, and no figure has formulas."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def confusion_matrix_figure(confusion: Tensor | np.ndarray, title: str, caveats: Sequence[str] = ()) -> Figure:
    """Counts and row shares of true against predicted grades.

    Args:
        confusion: Integer counts, 5 x 5, rows reference, columns prediction.
        title: What was measured, e.g. the split; quadratic kappa, accuracy and the number of knees follow it.
        caveats: See `stamp`.

    Returns:
        A figure of 6.6 x 6.2 inches.

    Raises:
        InputError: The counts are not 5 x 5.
    """
    counts = torch.as_tensor(confusion).cpu()
    if counts.shape != (len(GRADE_NAMES), len(GRADE_NAMES)):
        raise InputError(f"confusion matrix of shape {tuple(counts.shape)}: give the counts of 5 x 5 grades")
    knees = counts.sum(1)
    # a grade without knees has no shares; its row stays empty instead of showing 0 %
    shares = (counts / knees[:, None].clamp(min=1)).numpy()
    cells = [[_cell(int(counts[i, j]), shares[i, j], int(knees[i])) for j in range(5)] for i in range(5)]
    with sns.axes_style("white"):
        figure = Figure(figsize=(6.6, 6.2), layout="constrained")
        axes = figure.subplots()
    colours = sns.light_palette("#0b6e99", as_cmap=True)
    sns.heatmap(
        shares, annot=np.array(cells), fmt="", cmap=colours, vmin=0, vmax=1, square=True, linewidths=1.5,
        linecolor="white", ax=axes, annot_kws={"fontsize": 10, "linespacing": 1.35},
        cbar_kws={"label": "share of the true grade", "shrink": 0.75, "format": "{x:.0%}"},
    )  # fmt: skip
    for grade in range(5):
        axes.add_patch(Rectangle((grade, grade), 1, 1, fill=False, edgecolor=INK, linewidth=1.2, clip_on=False))
    axes.set_xticklabels([name.replace(" ", "\n") for name in GRADE_NAMES])
    axes.set_yticklabels([f"{name}\nn = {n}" for name, n in zip(GRADE_NAMES, knees.tolist(), strict=True)], rotation=0)
    axes.set_xlabel("predicted grade", color=INK, labelpad=8)
    axes.set_ylabel("true grade", color=INK, labelpad=8)
    kappa, accuracy = quadratic_kappa(counts), accuracy_of(counts)
    score = f"quadratic kappa {_number(kappa)}  ·  accuracy {_number(accuracy)}  ·  {int(knees.sum())} knees"
    axes.set_title(textwrap.fill(title, 48), loc="left", pad=26, fontsize=13, fontweight="bold", color=INK)
    axes.text(0, 1.025, score, transform=axes.transAxes, fontsize=10, color=QUIET)
    stamp(figure, caveats)
    return figure


def learning_curves_figure(
    history: pd.DataFrame,
    caveats: Sequence[str] = (),
    *,
    monitor: str = "val/quadratic_kappa",
    mode: str = "max",
) -> Figure:
    """Loss, quadratic kappa, accuracy and mae over the epochs, the best epoch marked.

    Args:
        history: One value a row: epoch (integer from 0), name (PART/NAME, as "val/loss"; splits train and val)
            and value. The last of repeated rows counts, as a resumed run logs an epoch again; other names
            are omitted.
        caveats: See `stamp`.
        monitor: The name whose best value marks the best epoch; no mark if the history lacks it.
        mode: "max" or "min": what is best.

    Returns:
        A figure of at most two panels a row.

    Raises:
        InputError: A column or every known name is missing.
    """
    curves = _curves(history)
    shown = [name for name in CURVES if {f"{split}/{name}" for split in SPLIT_COLOURS} & set(curves)]
    if not shown:
        raise InputError(f"history without any of {', '.join(CURVES)}: name them PART/NAME, as val/loss")
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with sns.axes_style("ticks", {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}):
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows + 0.7), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    best = _best_epoch(curves, monitor, mode)
    for axes, name in zip(panels, shown, strict=False):
        _draw_curves(axes, curves, name, best)
        axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    for axes in panels[len(shown) :]:
        axes.remove()
    stamp(figure, caveats)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG (150 dpi) in one step, so that no reader sees half of it, and close it.

    Args:
        figure: Is empty afterwards.
        path: Ends in .png; missing folders are made.

    Returns:
        The path written.

    Raises:
        InputError: The path does not end in .png.
    """
    target = Path(path)
    if target.suffix != ".png":
        raise InputError(f"figure {target}: only PNG is written; let the name end in .png")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        # no software version inside: the same figure is the same file
        figure.savefig(partial, format="png", dpi=150, facecolor="white", metadata={"Software": None})
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
        figure.clear()
        plt.close(figure)  # for a figure that a caller made with pyplot
    return target


def _cell(count: int, share: float, knees: int) -> str:
    return f"{count}\n{share:.0%}" if knees else ""


def _number(value: Tensor) -> str:
    return "undefined" if value.isnan() else f"{value:.3f}"


def _curves(history: pd.DataFrame) -> dict[str, pd.Series]:
    """Values by epoch of each name."""
    missing = {"epoch", "name", "value"} - set(history.columns)
    if missing:
        raise InputError(f"history without the columns {sorted(missing)}: give epoch, name and value")
    return {
        str(name): rows.drop_duplicates("epoch", keep="last").set_index("epoch")["value"].sort_index()
        for name, rows in history.groupby("name")
    }


def _best_epoch(curves: dict[str, pd.Series], monitor: str, mode: str) -> int | None:
    values = curves.get(monitor, pd.Series(dtype=float)).dropna()
    if values.empty:
        return None
    best = {"max": np.argmax, "min": np.argmin}[mode](values.to_numpy())
    return int(values.index.to_numpy()[best])


def _draw_curves(axes: Axes, curves: dict[str, pd.Series], name: str, best: int | None) -> None:
    for split, colour in SPLIT_COLOURS.items():
        if f"{split}/{name}" in curves:
            values = curves[f"{split}/{name}"].dropna()
            axes.plot(values.index, values, color=colour, marker="o", markersize=3, linewidth=1.8, label=split)
    axes.set_title(CURVES[name], loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel("epoch", color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if best is not None:
        label = f"best epoch: {best}"
        axes.axvline(best, color=CAVEAT_COLOUR, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5, label=label)
        _mark_best(axes, curves.get(f"val/{name}", pd.Series(dtype=float)).dropna(), best)
    axes.margins(y=0.14)
    axes.legend(frameon=False, fontsize=8)
    sns.despine(ax=axes)


def _mark_best(axes: Axes, values: pd.Series, best: int) -> None:
    if best not in values.index:
        return
    value, colour = float(values[best]), SPLIT_COLOURS["val"]
    axes.plot(best, value, marker="o", markersize=7, color=colour, markeredgecolor="white")
    axes.annotate(
        f"{value:.3f}", (best, value), xytext=(7, 7), textcoords="offset points", fontsize=9, color=colour,
        fontweight="bold", bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip
