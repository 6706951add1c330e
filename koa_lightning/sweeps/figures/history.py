"""Figures of a sweep's trials: their values in order, their learning curves, the Pareto front. Research use only.

Every function raises NotEnough if the trials do not suffice for the figure, and says what is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, QUIET
from koa_lightning.sweeps.results import Sweep

_MARKERS = {"failed": "x", "interrupted": "|", "running": ">"}


class NotEnough(ValueError):  # noqa: N818 (not an error: there are too few trials)
    """The trials do not suffice for this figure; the text says what is needed."""


def colours() -> dict[str, str]:
    """Return the colour of each state of a trial."""
    own = style.palette()
    return {
        "complete": own.main, "pruned": own.series[3], "failed": own.caveat, "interrupted": QUIET,
        "running": own.series[0], "waiting": "#d5dade",
    }  # fmt: skip


@style.drawn
def history_figure(sweep: Sweep) -> Figure:
    """Value of each trial in the order of their start, with the best so far; pruned and failed ones are marked.

    Bars show the standard deviation between the repeats of a trial. Values far on the bad side are cut off at the edge.
    """
    if sweep.trials.empty:
        raise NotEnough("no trial has begun")
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(style.inches(6.85), 1.3 + 2.1 * len(sweep.metrics)), layout="constrained")
        panels = figure.subplots(len(sweep.metrics), 1, squeeze=False)[:, 0]
    for axes, metric, mode in zip(panels, sweep.metrics, sweep.modes, strict=True):
        _draw_history(axes, sweep, metric, mode)
    style.legend_below(figure, handles(panels))
    style.figure_title(figure, "Trials in order")
    panels[-1].set_xlabel("trial", color=QUIET)
    stamp(figure, sweep.caveats)
    return figure


def _draw_history(axes: Axes, sweep: Sweep, metric: str, mode: str) -> None:
    done, counts, last = sweep.complete, sweep.counts(), sweep.trials.index.max()
    colour, sd = colours()["complete"], done[f"sd {metric}"]
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
        axes.plot(pruned.index, pruned["last"], "v", color=colours()["pruned"], label=label, ms=5, mfc="none")
    for state, marker in _MARKERS.items():
        at = sweep.trials.index[sweep.trials["state"] == state]
        if len(at):  # no value: on the lower edge, whatever the scale
            axes.plot(
                at, [0.03] * len(at), marker, transform=axes.get_xaxis_transform(), color=colours()[state],
                markersize=6, label=f"{state} ({counts[state]})", clip_on=False,
            )  # fmt: skip
    axes.set_ylabel(f"{metric}\n({'more' if mode == 'max' else 'less'} is better)", color=QUIET)
    axes.set_xlim(-0.6, last + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limit_bad_side(axes, pd.concat([done[metric], pruned["last"]]).dropna(), mode)
    sns.despine(ax=axes)


@style.drawn
def curves_figure(sweep: Sweep) -> Figure:
    """The first metric of each trial by epoch; the best is bold, pruned and failed ones are marked."""
    if not sweep.curves:
        raise NotEnough("values by epoch are needed, and no trial reported any")
    metric, mode = sweep.metrics[0], sweep.modes[0]
    width = style.inches(6.85)
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(width, 2.1 + 0.3 * width), layout="constrained")
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
        axes.plot(curve.index, curve, color=colours()[state], linewidth=1.1, alpha=alpha, label=label)
        end = {"pruned": "v", "failed": "x", "interrupted": "|"}.get(state, "." if len(curve) == 1 else "")
        axes.plot(curve.index[-1:], curve.iloc[-1:], end, color=colours()[state], markersize=5, alpha=0.9)
    if best is not None:
        curve = sweep.curves[best]
        label = f"best: trial {best}" if len(sweep.metrics) == 1 else f"trial {best}, best at the end"
        axes.plot(curve.index, curve, color=INK, linewidth=2.2, marker="o", markersize=3.5, label=label)
    axes.set_xlabel("epoch", color=QUIET)
    axes.set_ylabel(metric, color=QUIET)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    limit_bad_side(axes, pd.concat(list(sweep.curves.values())).dropna(), mode)
    style.legend_below(figure, axes.lines)
    style.figure_title(figure, "Learning curves of the trials")
    sns.despine(ax=axes)
    stamp(figure, sweep.caveats)
    return figure


@style.drawn
def pareto_figure(sweep: Sweep) -> Figure:
    """Complete trials by pairs of objectives; the Pareto front is numbered and, with two objectives, joined."""
    if len(sweep.metrics) < 2:
        raise NotEnough("two objectives or more are needed")
    if sweep.complete.empty:
        raise NotEnough("a complete trial is needed")
    pairs = list(combinations(range(len(sweep.metrics)), 2))
    width = style.inches(4.6 if len(pairs) == 1 else 6.85)
    columns = style.columns(width, 2.2, min(3, len(pairs)))
    rows = -(-len(pairs) // columns)
    with sns.axes_style("ticks", {**style.GRID, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(width, 0.9 * width / columns * rows + 0.9), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (i, j) in zip(panels, pairs, strict=False):
        _draw_pareto(axes, sweep, i, j, (width / columns - 0.7) * 72)
    for axes in panels[len(pairs) :]:
        axes.remove()
    style.figure_title(figure, f"Pareto front: {len(sweep.front)} of {len(sweep.complete)} complete trials")
    style.legend_below(figure, panels[0].lines)
    stamp(figure, sweep.caveats)
    return figure


def _draw_pareto(axes: Axes, sweep: Sweep, i: int, j: int, side: float) -> None:
    x, y = sweep.metrics[i], sweep.metrics[j]
    others = sweep.complete.drop(index=sweep.front)
    front = sweep.complete.loc[sweep.front].sort_values(x)
    axes.plot(others[x], others[y], "o", color="#a9b3bd", markersize=4, label="beaten by another trial")
    axes.errorbar(
        front[x], front[y], xerr=_bars(front[f"sd {x}"]), yerr=_bars(front[f"sd {y}"]), fmt="none", elinewidth=1,
        ecolor=colours()["complete"], alpha=0.5,
    )  # fmt: skip
    if len(sweep.metrics) == 2 and len(front) > 1:
        where: Literal["post", "pre"] = (
            "post" if sweep.modes[i] == "min" else "pre"
        )  # the best that is reached at this x or a better one
        axes.step(front[x], front[y], where=where, color=colours()["complete"], linewidth=1.2, alpha=0.6)
    axes.plot(front[x], front[y], "o", color=colours()["complete"], markersize=6, label="Pareto front, by trial number")
    words = {"max": "more is better →", "min": "← less is better"}
    axes.set_xlabel(f"{x}\n{words[sweep.modes[i]]}", color=QUIET)
    axes.set_ylabel(f"{y}\n{words[sweep.modes[j]]}", color=QUIET)
    axes.margins(0.12)
    _number(axes, front[[x, y]], side)
    sns.despine(ax=axes)


def _number(axes: Axes, front: pd.DataFrame, side: float) -> None:
    """Write each trial's number beside its point, where there is room; a number without room is omitted.

    Args:
        axes: Of the points, all drawn.
        front: Two columns by trial.
        side: Points (1/72 inch) of the panel, roughly.
    """
    low, high = np.transpose([axes.get_xlim(), axes.get_ylim()])
    places = (front.to_numpy(dtype=float) - low) / np.where(high > low, high - low, 1) * side
    letter, taken = 0.65 * style.small(), list[tuple[np.ndarray, float]]()
    for number, place in zip(front.index, places, strict=True):
        wide = letter * len(str(number))
        for offset in ((5, 4), (5, -4 - style.small()), (-5 - wide, 4), (-5 - wide, -4 - style.small())):
            corner = place + offset
            free = all(
                corner[0] + wide < other[0] or other[0] + width < corner[0] or abs(corner[1] - other[1]) > 1.7 * letter
                for other, width in taken
            )
            if free:
                taken.append((corner, wide))
                axes.annotate(f"{number}", front.loc[number], xytext=offset, textcoords="offset points",
                              fontsize=style.small(), color=INK)  # fmt: skip
                break


def _bars(sd: pd.Series) -> pd.Series | None:
    return sd if sd.notna().any() else None


def varied(sweep: Sweep) -> list[str]:
    """Return the keys that differ between trials.

    Raises:
        NotEnough: No key differs, or fewer than two trials are complete.
    """
    if len(sweep.complete) < 2:
        raise NotEnough(f"2 complete trials are needed, there {are(len(sweep.complete))}")
    if not sweep.varied:
        raise NotEnough("no key differs between the trials")
    return sweep.varied


def are(count: int) -> str:
    """Return `is 1`, `are 3`, `are none`."""
    return f"is {count}" if count == 1 else f"are {count or 'none'}"


def handles(panels: Iterable[Axes]) -> list[Line2D]:
    """Return the lines of the first panel that has a label, each label once."""
    return list({str(line.get_label()): line for line in next(iter(panels)).lines}.values())


def mark_value(axes: Axes, x: float, y: float, mode: str) -> None:
    """Ring the best point and write its value beside it, on the side where better ones would be."""
    axes.plot(x, y, "o", markersize=10, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2)
    up = mode == "max"
    axes.annotate(
        f"{y:.4g}", (x, y), xytext=(0, 9 if up else -9), textcoords="offset points", fontsize=style.small(), color=INK,
        fontweight="bold", ha="center", va="bottom" if up else "top",
    )  # fmt: skip


def limit_bad_side(axes: Axes, values: pd.Series, mode: str) -> None:
    """Cut the y axis where a few values are so bad that they would flatten all others, and say how many."""
    axes.margins(y=0.16)
    sign = 1 if mode == "min" else -1
    signed = values.to_numpy(dtype=float) * sign  # lower is better
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
    axes.text(
        0.99, edge, words, transform=axes.transAxes, ha="right", va=va, fontsize=style.small(), zorder=5,
        color=style.palette().caveat, bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6},
    )  # fmt: skip
