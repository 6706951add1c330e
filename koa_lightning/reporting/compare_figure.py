"""Learning curves of several runs on one figure. Research use only, not a medical device."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from koa_lightning.errors import InputError
from koa_lightning.reporting.figures import CURVES, INK, QUIET, stamp

_STYLES: dict[str, dict[str, Any]] = {
    "val": {"linewidth": 1.8, "marker": "o", "markersize": 3},
    "train": {"linewidth": 1, "linestyle": (0, (2, 2))},
}
_SPLITS = {"val": "validation", "train": "training"}
_LEGEND_WIDTH = 2.6  # inches


def curves_figure(histories: Mapping[str, pd.DataFrame], caveats: Sequence[str] = ()) -> Figure:
    """Loss, quadratic kappa, accuracy and mae over the epochs, one colour a run.

    Args:
        histories: By the run's label; columns epoch, name (PART/NAME, as "val/loss") and value.
        caveats: See `koa_lightning.reporting.figures.stamp`.

    Raises:
        InputError: No run has a curve.
    """
    shown = [n for n in CURVES if any(h["name"].isin([f"val/{n}", f"train/{n}"]).any() for h in histories.values())]
    if not shown:
        raise InputError("no run has a learning curve; name runs that koa_lightning.train made")
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    with sns.axes_style("ticks", {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}):
        figure = Figure(figsize=(4.2 * columns + _LEGEND_WIDTH, 2.9 * rows + 0.7), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    palette = sns.color_palette("colorblind" if len(histories) <= 10 else "husl", len(histories))
    colours = dict(zip(histories, palette, strict=True))
    for axes, name in zip(panels, shown, strict=False):
        for label, history in histories.items():
            for split, style in _STYLES.items():
                rows_of = history[history["name"] == f"{split}/{name}"].sort_values("epoch")
                axes.plot(rows_of["epoch"], rows_of["value"], color=colours[label], **style)
        axes.set_title(CURVES[name], loc="left", fontsize=11, fontweight="bold", color=INK)
        axes.set_xlabel("epoch", color=QUIET)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        sns.despine(ax=axes)
    for axes in panels[len(shown) :]:
        axes.remove()
    lines = [Line2D([], [], color=c, linewidth=2, label=textwrap.fill(label, 30)) for label, c in colours.items()]
    splits = [Line2D([], [], color=QUIET, label=name, **_STYLES[split]) for split, name in _SPLITS.items()]
    figure.legend(handles=[*lines, *splits], loc="outside right upper", frameon=False, fontsize=8)
    stamp(figure, caveats)
    return figure
