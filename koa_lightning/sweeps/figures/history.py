"""Figures of a sweep's trials: their values in order, their learning curves, the Pareto front. Research use only.

Every function raises NotEnough where the trials do not make the figure, and says what it takes.
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from koa_lightning.reporting.figures import CAVEAT_COLOUR, INK, QUIET, stamp
from koa_lightning.sweeps.results import Sweep

COLOURS = {
    "complete": "#0b6e99", "pruned": "#d9822b", "failed": CAVEAT_COLOUR, "interrupted": "#6b7580", "running": "#7fb7cf",
    "waiting": "#d5dade",
}  # fmt: skip
GRID = {"axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e8ebee"}
_MARKERS = {"failed": "x", "interrupted": "|", "running": ">"}


class NotEnough(ValueError):  # noqa: N818 (no fault: the trials are what they are)
    """The trials do not make this figure; the text says what it takes."""


def history_figure(sweep: Sweep) -> Figure:
    """Value of each trial in the order of their start, with the best so far; pruned and failed ones are marked.

    Bars show the standard deviation between the repeats of a trial. Values far on the bad side are cut off at the edge.
    """
    if sweep.trials.empty:
        raise NotEnough("no trial has begun")
    with sns.axes_style("ticks", GRID):
        figure = Figure(figsize=(8.2, 1.1 + 3.3 * len(sweep.metrics)), layout="constrained")
        panels = figure.subplots(len(sweep.metrics), 1, squeeze=False)[:, 0]
    for axes, metric, mode in zip(panels, sweep.metrics, sweep.modes, strict=True):
        _draw_history(axes, sweep, metric, mode)
    legend(panels[0])
    title(panels[0], "Trials in order", pad=26)
    panels[-1].set_xlabel("trial", color=QUIET)
    stamp(figure, sweep.caveats)
    return figure


def _draw_history(axes: Axes, sweep: Sweep, metric: str, mode: str) -> None:
    done, counts, last = sweep.complete, sweep.counts(), sweep.trials.index.max()
    colour, sd = COLOURS["complete"], done[f"sd {metric}"]
    if sd.notna().any():
        axes.errorbar(done.index, done[metric], sd, fmt="none", ecolor=colour, elinewidth=1, alpha=0.5, capsize=2)
    label = f"complete ({len(done)})"
    axes.plot(done.index, done[metric], "o", color=colour, markersize=5, label=label)
    if len(done):
        best = done[metric].cummax() if mode == "max" else done[metric].cummin()
        steps = [*best.index, last], [*best, best.iloc[-1]]
        axes.step(*steps, where="post", color=INK, linewidth=1.2, label="best so far")
        where = int(np.argmax(best == best.iloc[-1]))
        mark_value(axes, float(best.index.to_numpy()[where]), float(best.iloc[-1]), mode)
    pruned = sweep.trials[(sweep.trials["state"] == "pruned") & sweep.trials["last"].notna()]
    if len(pruned) and len(sweep.metrics) == 1:
        label = f"pruned, its last value ({counts['pruned']})"
        axes.plot(pruned.index, pruned["last"], "v", color=COLOURS["pruned"], label=label, ms=5, mfc="none")
    for state, marker in _MARKERS.items():
        at = sweep.trials.index[sweep.trials["state"] == state]
        if len(at):  # no value: on the lower edge, whatever the scale
            axes.plot(
                at, [0.03] * len(at), marker, transform=axes.get_xaxis_transform(), color=COLOURS[state], markersize=6,
                label=f"{state} ({counts[state]})", clip_on=False,
            )  # fmt: skip
    axes.set_ylabel(f"{metric}\n({'more' if mode == 'max' else 'less'} is better)", color=QUIET)
    axes.set_xlim(-0.6, last + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limit_bad_side(axes, pd.concat([done[metric], pruned["last"]]).dropna(), mode)
    sns.despine(ax=axes)


def curves_figure(sweep: Sweep) -> Figure:
    """What each trial reported of the first metric, by epoch; the best is bold, pruned and failed are marked."""
    if not sweep.curves:
        raise NotEnough("values of epochs are needed, and no trial reported any")
    metric, mode = sweep.metrics[0], sweep.modes[0]
    with sns.axes_style("ticks", GRID):
        figure = Figure(figsize=(8.2, 4.6), layout="constrained")
        axes = figure.subplots()
    best = next((number for number in sweep.front if number in sweep.curves), None)
    states = sweep.trials.loc[list(sweep.curves), "state"].value_counts()
    said: set[str] = set()
    for number in reversed(sweep.ranking):  # the best on top
        curve, state = sweep.curves.get(number), str(sweep.trials.loc[number, "state"])
        if curve is None or number == best:
            continue
        label = None if state in said else f"{state} ({states[state]})"
        said.add(state)
        alpha = 0.9 if len(sweep.curves) <= 5 else 0.45
        axes.plot(curve.index, curve, color=COLOURS[state], linewidth=1.1, alpha=alpha, label=label)
        end = {"pruned": "v", "failed": "x", "interrupted": "|"}.get(state, "." if len(curve) == 1 else "")
        axes.plot(curve.index[-1:], curve.iloc[-1:], end, color=COLOURS[state], markersize=5, alpha=0.9)
    if best is not None:
        curve = sweep.curves[best]
        label = f"best: trial {best}" if len(sweep.metrics) == 1 else f"trial {best}, best at the end"
        axes.plot(curve.index, curve, color=INK, linewidth=2.2, marker="o", markersize=3.5, label=label)
    axes.set_xlabel("epoch", color=QUIET)
    axes.set_ylabel(metric, color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limit_bad_side(axes, pd.concat(list(sweep.curves.values())).dropna(), mode)
    legend(axes)
    title(axes, "Learning curves of the trials", pad=26)
    sns.despine(ax=axes)
    stamp(figure, sweep.caveats)
    return figure


def pareto_figure(sweep: Sweep) -> Figure:
    """Complete trials by two objectives each; those on the Pareto front are numbered, of two objectives in a line."""
    if len(sweep.metrics) < 2:
        raise NotEnough("two objectives or more are needed")
    if sweep.complete.empty:
        raise NotEnough("a complete trial is needed")
    pairs = list(combinations(range(len(sweep.metrics)), 2))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    with sns.axes_style("ticks", {**GRID, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(5.8 if len(pairs) == 1 else 4.2 * columns, 4.6 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (i, j) in zip(panels, pairs, strict=False):
        _draw_pareto(axes, sweep, i, j)
    for axes in panels[len(pairs) :]:
        axes.remove()
    title(panels[0], f"Pareto front: {len(sweep.front)} of {len(sweep.complete)} complete trials", pad=24)
    legend(panels[0])
    stamp(figure, sweep.caveats)
    return figure


def _draw_pareto(axes: Axes, sweep: Sweep, i: int, j: int) -> None:
    x, y = sweep.metrics[i], sweep.metrics[j]
    others = sweep.complete.drop(index=sweep.front)
    front = sweep.complete.loc[sweep.front].sort_values(x)
    axes.plot(others[x], others[y], "o", color="#a9b3bd", markersize=5, label="beaten by another trial")
    axes.errorbar(
        front[x], front[y], xerr=_bars(front[f"sd {x}"]), yerr=_bars(front[f"sd {y}"]), fmt="none", elinewidth=1,
        ecolor=COLOURS["complete"], alpha=0.5,
    )  # fmt: skip
    if len(sweep.metrics) == 2 and len(front) > 1:
        where: Literal["post", "pre"] = (
            "post" if sweep.modes[i] == "min" else "pre"
        )  # what can be had at this x or a better one
        axes.step(front[x], front[y], where=where, color=COLOURS["complete"], linewidth=1.2, alpha=0.6)
    axes.plot(front[x], front[y], "o", color=COLOURS["complete"], markersize=7, label="Pareto front, by trial number")
    for number, row in front.iterrows():
        axes.annotate(f"{number}", (row[x], row[y]), xytext=(5, 5), textcoords="offset points", fontsize=8, color=INK)
    words = {"max": "more is better →", "min": "← less is better"}
    axes.set_xlabel(f"{x}\n{words[sweep.modes[i]]}", color=QUIET)
    axes.set_ylabel(f"{y}\n{words[sweep.modes[j]]}", color=QUIET)
    axes.margins(0.1)
    sns.despine(ax=axes)


def _bars(sd: pd.Series) -> pd.Series | None:
    return sd if sd.notna().any() else None


def varied(sweep: Sweep) -> list[str]:
    """Return the keys that differ between trials.

    Raises:
        NotEnough: None does, or fewer than two trials are complete.
    """
    if len(sweep.complete) < 2:
        raise NotEnough(f"2 complete trials are needed, there {are(len(sweep.complete))}")
    if not sweep.varied:
        raise NotEnough("no key differs between the trials")
    return sweep.varied


def are(count: int) -> str:
    """Return `is 1`, `are 3`, `are none`."""
    return f"is {count}" if count == 1 else f"are {count or 'none'}"


def title(axes: Axes, words: str, pad: float = 6) -> None:
    """Write a panel's title in the style of the house."""
    axes.set_title(words, loc="left", fontsize=11, fontweight="bold", color=INK, pad=pad)


def legend(axes: Axes, columns: int = 5) -> None:
    """Write the legend above a panel, under its title."""
    axes.legend(
        frameon=False, fontsize=8, ncols=columns, columnspacing=1.2, handlelength=1.5, loc="lower left",
        bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2,
    )  # fmt: skip


def mark_value(axes: Axes, x: float, y: float, mode: str) -> None:
    """Ring the best point and write its value beside it, on the side where better ones would be."""
    axes.plot(x, y, "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2)
    up = mode == "max"
    axes.annotate(
        f"{y:.4g}", (x, y), xytext=(0, 9 if up else -9), textcoords="offset points", fontsize=9, color=INK,
        fontweight="bold", ha="center", va="bottom" if up else "top",
    )  # fmt: skip


def limit_bad_side(axes: Axes, values: pd.Series, mode: str) -> None:
    """Cut the y axis where a few values are so bad that they would flatten all others, and say how many."""
    axes.margins(y=0.16)
    sign = 1 if mode == "min" else -1
    signed = values.to_numpy(dtype=float) * sign  # less is better
    if len(signed) < 4:
        return
    middle = float(np.median(signed))
    limit = middle + 8 * (middle - signed.min())  # as far again on the bad side, eight times
    n_cut = int((signed > limit).sum())
    if not n_cut or middle == signed.min():
        return
    kept = signed[signed <= limit]
    room = 0.16 * (kept.max() - kept.min() or 1.0)
    low, high = kept.min() - room, kept.max() + room
    axes.set_ylim((low, high) if mode == "min" else (-high, -low))
    edge, va = (0.98, "top") if mode == "min" else (0.02, "bottom")
    words = f"{n_cut} value{'s' if n_cut > 1 else ''} beyond this edge, the worst {sign * signed.max():.3g}"
    axes.text(0.99, edge, words, transform=axes.transAxes, ha="right", va=va, fontsize=8, color=CAVEAT_COLOUR)
