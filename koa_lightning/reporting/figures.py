"""Figures of a run: confusion matrix and learning curves. Research use only, not a medical device.

The figures are not registered with pyplot, so none stays open.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.metrics.definitions.accuracy import accuracy as accuracy_of
from koa_lightning.metrics.definitions.quadratic_kappa import quadratic_kappa
from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, QUIET

GRADE_NAMES = ("0 none", "1 doubtful", "2 minimal", "3 moderate", "4 severe")
CURVES = {
    "loss": "loss",
    "quadratic_kappa": "quadratic kappa",
    "accuracy": "accuracy",
    "mae": "mean absolute error (grades)",
}
SPLITS = ("train", "val")


@style.drawn
def confusion_matrix_figure(confusion: Tensor | np.ndarray, title: str, caveats: Sequence[str] = ()) -> Figure:
    """Counts and row shares of true against predicted grades.

    Args:
        confusion: Integer counts, 5 x 5, rows reference, columns prediction.
        title: What was evaluated, e.g. the split; quadratic kappa, accuracy and the number of knees follow it.
        caveats: See `koa_lightning.reporting.saving.stamp`.

    Returns:
        A figure, by default 5 inches wide.

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
    width = style.inches(5.0)
    with sns.axes_style("white"):
        figure = Figure(figsize=(width, 0.82 * width + 0.9), layout="constrained")
        axes = figure.subplots()
    # every cell states its share, so no colour bar is needed
    sns.heatmap(
        shares, annot=np.array(cells), fmt="", cmap=style.palette().shades, vmin=0, vmax=1, square=True, linewidths=1.2,
        linecolor="white", ax=axes, annot_kws={"fontsize": style.body(), "linespacing": 1.25}, cbar=False,
    )  # fmt: skip
    for grade in range(5):
        axes.add_patch(Rectangle((grade, grade), 1, 1, fill=False, edgecolor=INK, linewidth=1, clip_on=False))
    # rows have the full names; columns have them too if they fit
    axes.set_xticklabels([name.replace(" ", "\n") if width > 4 else name[0] for name in GRADE_NAMES])
    axes.set_yticklabels([f"{name}\nn = {n}" for name, n in zip(GRADE_NAMES, knees.tolist(), strict=True)], rotation=0)
    axes.set_xlabel("predicted grade", color=INK)
    axes.set_ylabel("true grade (cells: knees, share of the row)", color=INK)
    kappa, accuracy = quadratic_kappa(counts), accuracy_of(counts)
    score = f"quadratic kappa {_number(kappa)}  ·  accuracy {_number(accuracy)}  ·  {int(knees.sum())} knees"
    style.figure_title(figure, title)
    # wrapped to the figure's width, not the matrix's
    axes.set_title(style.wrap(score, 0.72 * width, style.small()), loc="left", fontsize=style.small(), color=QUIET)
    stamp(figure, caveats)
    return figure


@style.drawn
def learning_curves_figure(
    history: pd.DataFrame,
    caveats: Sequence[str] = (),
    *,
    monitor: str = "val/quadratic_kappa",
    mode: str = "max",
) -> Figure:
    """Loss, quadratic kappa, accuracy and mae over the epochs, with the best epoch marked.

    Args:
        history: One value per row: epoch (integer from 0), name (SPLIT/NAME, e.g. "val/loss"; splits train and val)
            and value. If a resumed run logged an epoch again, the last row counts. Other names are ignored.
        caveats: See `koa_lightning.reporting.saving.stamp`.
        monitor: The name whose best value marks the best epoch; no mark if the history lacks it.
        mode: "max" or "min": what is best.

    Returns:
        A figure with at most two panels per row.

    Raises:
        InputError: A column is missing, or no known name occurs.
    """
    curves = _curves(history)
    shown = [name for name in CURVES if {f"{split}/{name}" for split in SPLITS} & set(curves)]
    if not shown:
        raise InputError(f"history without any of {', '.join(CURVES)}: name them SPLIT/NAME, e.g. val/loss")
    width = style.inches(6.85)
    columns = style.columns(width, 1.5, min(2, len(shown)))
    rows = -(-len(shown) // columns)
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(width, 1.75 * rows + 0.6), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    best = _best_epoch(curves, monitor, mode)
    for axes, name in zip(panels, shown, strict=False):
        _draw_curves(axes, curves, name, best, width / columns)
        axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("epoch", color=QUIET)
    lines = {str(line.get_label()): line for axes in panels[: len(shown)] for line in axes.lines}
    style.legend_below(figure, list(lines.values()))
    stamp(figure, caveats)
    return figure


def _cell(count: int, share: float, knees: int) -> str:
    return f"{count}\n{share:.0%}" if knees else ""


def _number(value: Tensor) -> str:
    return "undefined" if value.isnan() else f"{value:.3f}"


def _curves(history: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the values by epoch of each name."""
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


def _draw_curves(axes: Axes, curves: dict[str, pd.Series], name: str, best: int | None, width: float) -> None:
    looks = {"train": {"color": QUIET, "linestyle": style.DASHES[1], "linewidth": 1.2},
             "val": {"color": style.palette().main, "linewidth": 1.6, "marker": "o", "markersize": 2.5}}  # fmt: skip
    for split, look in looks.items():
        if f"{split}/{name}" in curves:
            values = curves[f"{split}/{name}"].dropna()
            only = {"marker": "o", "markersize": 2.5} if len(values) == 1 else {}
            axes.plot(values.index, values, label=split, **(look | only))
    style.panel_title(axes, CURVES[name], width - 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if best is not None:
        label = f"best epoch: {best}"
        axes.axvline(
            best, color=style.palette().second, linewidth=1, linestyle=style.DASHES[2], zorder=1.5, label=label
        )
        val, train = (curves.get(f"{split}/{name}", pd.Series(dtype=float)).dropna() for split in ("val", "train"))
        _mark_best(axes, val, train, best)
    axes.margins(y=0.25)
    sns.despine(ax=axes)


def _mark_best(axes: Axes, values: pd.Series, train: pd.Series, best: int) -> None:
    if best not in values.index:
        return
    value, colour = float(values[best]), style.palette().main
    axes.plot(best, value, marker="o", markersize=5.5, color=colour, markeredgecolor="white")
    right = best > (values.index.min() + values.index.max()) / 2  # the number stays inside the panel
    next_to_it = [epoch for epoch in values.index if (epoch < best if right else epoch > best)]
    beside = next_to_it[-1 if right else 0 :][:1]
    near = [float(curve[epoch]) for curve in (values, train) for epoch in (best, *beside) if epoch in curve.index]
    below = sum(other > value for other in near) > sum(other < value for other in near)  # away from the curves
    axes.annotate(
        f"{value:.3f}", (best, value), xytext=(-6 if right else 6, -7 if below else 6), textcoords="offset points",
        ha="right" if right else "left", va="top" if below else "bottom", color=colour, fontsize=style.small(),
        fontweight="bold",
        bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6},
    )  # fmt: skip
