"""Learning curves of several runs on one figure. Research use only, not a medical device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from koa_lightning.errors import InputError
from koa_lightning.reporting import style
from koa_lightning.reporting.figures import CURVES
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import QUIET

_SPLITS = {"val": "validation", "train": "training"}


def _looks() -> dict[str, dict[str, Any]]:
    return {
        "val": {"linewidth": 1.6, "marker": "o", "markersize": 2.5},
        "train": {"linewidth": 0.9, "linestyle": style.DASHES[2]},
    }


@style.drawn
def curves_figure(histories: Mapping[str, pd.DataFrame], caveats: Sequence[str] = ()) -> Figure:
    """Loss, quadratic kappa, accuracy and mae over the epochs, one colour per run.

    Args:
        histories: Label of a run -> columns epoch, name (SPLIT/NAME, e.g. "val/loss") and value.
        caveats: See `koa_lightning.reporting.saving.stamp`.

    Raises:
        InputError: No run has a curve.
    """
    shown = [n for n in CURVES if any(h["name"].isin([f"val/{n}", f"train/{n}"]).any() for h in histories.values())]
    if not shown:
        raise InputError("no run has a learning curve; name runs that koa_lightning.train made")
    width = style.inches(6.85)
    columns = style.columns(width, 1.5, min(2, len(shown)))
    rows = -(-len(shown) // columns)
    series = style.palette().series
    palette = series if len(histories) <= len(series) else sns.color_palette("viridis", len(histories))
    colours = dict(zip(histories, palette, strict=False))
    looks = _looks()
    lines = [
        Line2D([], [], color=colour, linewidth=2, label=style.wrap(label, width - 0.9, style.small()))
        for label, colour in colours.items()
    ]
    splits = [Line2D([], [], color=QUIET, label=name, **looks[split]) for split, name in _SPLITS.items()]
    below = sum(1.4 * style.small() / 72 * (str(line.get_label()).count("\n") + 1) for line in lines)
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(width, 1.7 * rows + 0.6 + below), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, shown, strict=False):
        for label, history in histories.items():
            for split, look in looks.items():
                rows_of = history[history["name"] == f"{split}/{name}"].sort_values("epoch")
                axes.plot(rows_of["epoch"], rows_of["value"], color=colours[label], **look)
        style.panel_title(axes, CURVES[name], width / columns - 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        sns.despine(ax=axes)
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("epoch", color=QUIET)
    style.legend_below(figure, [*lines, *splits])
    stamp(figure, caveats)
    return figure
