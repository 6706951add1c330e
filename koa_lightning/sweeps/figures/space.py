"""Figures of a sweep's search space: parallel coordinates and slices. Research use only.

Keys that were the same in all trials are omitted; a trial that did not use a key stands beside its scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from koa_lightning.config.overrides import short_names
from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, QUIET
from koa_lightning.sweeps.figures.history import limit_bad_side, varied
from koa_lightning.sweeps.results import Sweep, show

NOT_USED = "not used"
_BELOW = -0.14  # place of a trial that does not use a key, in heights of the scale


@style.drawn
def parallel_figure(sweep: Sweep) -> Figure:
    """Each complete trial as a line across the keys that differ, ending at its value; the best in black."""
    keys, done = varied(sweep), sweep.complete
    frame = sweep.params.loc[done.index]
    metric, mode = sweep.metrics[0], sweep.modes[0]
    scales = [_Scale(sweep, key, frame[key]) for key in keys]
    scales += [_Scale.of_metric(done[name]) for name in sweep.metrics]
    names = [*(short_names(keys)[key] for key in keys), *sweep.metrics]
    with sns.axes_style("white"):
        width = style.inches(6.85)
        room = (width - 0.6) / len(names)
        upright = [_bold(name) for name in names if not _is_level(name, room)]
        figure = Figure(figsize=(width, 3.4 + max(upright, default=0.0)), layout="constrained")
        axes = figure.subplots()
    columns = [frame[key] for key in keys] + [done[name] for name in sweep.metrics]
    heights = np.array([scale.heights(column) for scale, column in zip(scales, columns, strict=True)])
    colours, norm = _by_value(done[metric], mode)
    bold = set(sweep.front)
    for place in np.argsort(done[metric].to_numpy() * (1 if mode == "max" else -1)):  # draws the best on top
        best = done.index[place] in bold
        colour = INK if best else colours(norm(done[metric].iloc[place]))
        axes.plot(heights[:, place], color=colour, linewidth=2.2 if best else 1.1, alpha=1.0 if best else 0.75)
    for x, (scale, name) in enumerate(zip(scales, names, strict=True)):
        scale.draw(axes, x, name, room)
    axes.set_xlim(-0.15, len(names) - 0.35)
    axes.set_ylim(_BELOW - 0.05, 1.06)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axes, location="bottom", shrink=0.6, pad=0.02, aspect=40)
    bar.set_label(metric, color=QUIET)
    bar.locator = FixedLocator([done[metric].iloc[0]]) if _all_same(done[metric]) else MaxNLocator(4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    black = "black: the best trial" if len(sweep.metrics) == 1 else "black: the Pareto front"
    style.figure_title(figure, f"{len(done)} complete trials, {black}")
    stamp(figure, sweep.caveats)
    return figure


class _Scale:
    """The vertical scale of one key: from its values to heights 0 to 1."""

    def __init__(self, sweep: Sweep, key: str, values: pd.Series) -> None:
        used = [value for value in values if value is not None]
        self.some_unused = len(used) < len(values)
        self.levels = _levels(sweep, key, used) if sweep.kinds[key] == "choice" else []
        self.log = sweep.kinds[key] == "log"
        self.low, self.high = _ends(used) if not self.levels else (0.0, len(self.levels) - 1.0)

    @classmethod
    def of_metric(cls, values: pd.Series) -> _Scale:
        scale = cls.__new__(cls)
        scale.some_unused, scale.levels, scale.log = False, [], False
        scale.low, scale.high = _ends(values.tolist())
        return scale

    def height(self, value: float) -> float:
        if self.low == self.high:
            return 0.5
        if self.log:
            return float(np.log(value / self.low) / np.log(self.high / self.low))
        return (value - self.low) / (self.high - self.low)

    def heights(self, values: pd.Series) -> np.ndarray:
        at = [self._place(value) for value in values]
        if not self.levels:
            return np.array(at)
        # equal choices side by side, so that their lines can be distinguished
        width = min(0.06, 0.3 / len(self.levels))
        ranks = pd.Series(at).groupby(at).rank(method="first") / pd.Series(at).groupby(at).transform("count").add(1)
        return np.array(at) + width * (ranks.to_numpy() - 0.5)

    def _place(self, value: Any) -> float:
        if value is None:
            return _BELOW
        return self.height(self.levels.index(value) if self.levels else value)

    def draw(self, axes: Axes, x: int, name: str, room: float) -> None:
        axes.plot([x, x], [0, 1], color=QUIET, linewidth=1, zorder=3)
        box = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.8}
        look: dict[str, Any] = {"fontsize": style.small(), "color": INK, "va": "center", "zorder": 4, "bbox": box}
        letters = max(4, int(0.8 * room * 72 / (0.6 * style.small())))
        for value, text in self._ticks():
            axes.plot([x - 0.02, x], [self.height(value)] * 2, color=QUIET, linewidth=1, zorder=3)
            axes.text(x + 0.035, self.height(value), _short(text, letters), **look)
        if self.some_unused:
            axes.text(x + 0.035, _BELOW, NOT_USED, **{**look, "color": QUIET, "fontstyle": "italic"})
        bold: dict[str, Any] = {"fontsize": style.small(), "fontweight": "bold", "color": INK}
        axes.text(x - 0.02, 1.07, name, ha="left", va="bottom", rotation=0 if _is_level(name, room) else 90, **bold)

    def _ticks(self) -> list[tuple[float, str]]:
        if self.levels:
            return [(i, show(level)) for i, level in enumerate(self.levels)]
        if self.low == self.high:
            return [(self.low, show(self.low))]
        if self.log:
            inside = _log_ticks(self.low, self.high)
        else:
            inside = [v for v in MaxNLocator(5).tick_values(self.low, self.high) if self.low <= v <= self.high]
        return [(float(value), show(float(value))) for value in inside]


@style.drawn
def slices_figure(sweep: Sweep) -> Figure:
    """Value of each complete trial against each key that differs, darker for later trials; the best are ringed."""
    keys, done = varied(sweep), sweep.complete
    width = style.inches(6.85)
    columns = style.columns(width, 1.6, 2 if len(keys) in (2, 4) else min(3, len(keys)))
    rows = -(-len(keys) // columns) * len(sweep.metrics)
    with sns.axes_style("ticks", style.GRID):
        figure = Figure(figsize=(width, 1.1 + 1.75 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False)
    per_metric = rows // len(sweep.metrics)
    for m, (metric, mode) in enumerate(zip(sweep.metrics, sweep.modes, strict=True)):
        block = panels[m * per_metric : (m + 1) * per_metric].ravel()
        for i, (axes, key) in enumerate(zip(block, keys, strict=False)):
            _draw_slice(axes, sweep, key, metric, (width - 0.5) / columns)
            limit_bad_side(axes, done[metric], mode)
            axes.set_ylabel(metric if i % columns == 0 else "", color=QUIET)
        limits = np.array([axes.get_ylim() for axes in block[: len(keys)]])
        for axes in block[: len(keys)]:  # one scale for all, even if some trials did not use a key
            axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())
        for axes in block[len(keys) :]:
            axes.remove()
    ringed = "the best" if len(sweep.metrics) == 1 else "the front"
    style.figure_title(figure, f"{len(done)} complete trials, ringed: {ringed}")
    kept = [axes for axes in panels.ravel() if axes.figure is not None]
    norm = Normalize(sweep.trials.index.min(), max(1, sweep.trials.index.max()))
    bar = figure.colorbar(ScalarMappable(norm, _ORDER), ax=kept, location="bottom", shrink=0.5, pad=0.02, aspect=40)
    bar.set_label("trial", color=QUIET)
    bar.locator = MaxNLocator(5, integer=True)
    bar.update_ticks()
    bar.outline.set_visible(False)
    stamp(figure, sweep.caveats)
    return figure


def _draw_slice(axes: Axes, sweep: Sweep, key: str, metric: str, room: float) -> None:
    done = sweep.complete
    values = sweep.params.loc[done.index, key]
    used = values[[value is not None for value in values]]
    name = short_names(sweep.varied)[key]
    if sweep.kinds[key] == "choice":
        levels = [*_levels(sweep, key, used.tolist()), *([None] if len(used) < len(values) else [])]
        labels = [NOT_USED if level is None else show(level) for level in levels]
        places = pd.Series([float(levels.index(value)) for value in values], values.index)
        places += 0.28 * (_spread(len(places)) - 0.5)
        axes.set_xticks(range(len(levels)), labels, rotation=0 if _fit(labels, room - 0.5) else 90)
        axes.set_xlim(-0.5, len(levels) - 0.5)
    else:
        places = used.astype(float)
        if sweep.kinds[key] == "log":
            ticks = _log_ticks(float(places.min()), float(places.max()))
            axes.set_xscale("log")
            axes.set_xticks(ticks, [show(tick) for tick in ticks])
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif (places % 1 == 0).all():
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if len(used) < len(values):
            name += f"\n({len(used)} of {len(values)} trials)"
    top = max(1, sweep.trials.index.max())
    axes.scatter(
        places, done.loc[places.index, metric], c=places.index, cmap=_ORDER, vmin=0, vmax=top, s=18, linewidths=0.4,
        edgecolors="white", zorder=3,
    )  # fmt: skip
    best = [number for number in sweep.front if number in places.index]
    axes.plot(places[best], done.loc[best, metric], "o", markersize=8, markerfacecolor="none", markeredgecolor=INK)
    axes.set_xlabel(style.wrap(name, room, style.body()), color=INK)
    sns.despine(ax=axes)


def _bold(name: str) -> float:
    """Return roughly how many inches a name takes in bold."""
    return len(name) * 0.66 * style.small() / 72


def _is_level(name: str, room: float) -> bool:
    """Return whether the name of a scale fits above it in `room` inches; otherwise it is drawn upright."""
    return _bold(name) < 0.92 * room


def _fit(labels: list[str], room: float) -> bool:
    """Return whether labels side by side fit into `room` inches."""
    return len(labels) * (max(map(len, labels)) + 1) * 0.6 * style.small() / 72 < room


def _short(text: str, letters: int) -> str:
    """Return a value in at most `letters` characters: a number in another notation, a name cut at its end."""
    if len(text) <= letters:
        return text
    try:
        return f"{float(text):.0e}".replace("e-0", "e-").replace("e+0", "e")
    except ValueError:
        return f"{text[: letters - 1]}…"


def _levels(sweep: Sweep, key: str, used: list[Any]) -> list[Any]:
    """Return the choices that trials used: numbers sorted, others in the order of the space."""
    levels = [level for level in sweep.levels[key] if level in used]
    try:
        return sorted(levels, key=float)
    except (TypeError, ValueError):
        return levels


def _all_same(values: pd.Series) -> bool:
    return bool((values == values.iloc[0]).all())


def _ends(values: list[Any]) -> tuple[float, float]:
    return float(min(values)), float(max(values))


def _spread(n: int) -> np.ndarray:
    """Return n fixed places in 0 to 1, with neighbours far apart (multiples of the golden ratio)."""
    return np.arange(1, n + 1) * 0.618034 % 1


def _log_ticks(low: float, high: float) -> list[float]:
    """Return two to six round numbers between two ends of a logarithmic scale, or the ends themselves."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) > 1:
            return inside[:: -(-len(inside) // 6)]
    return [low, high]


def _by_value(values: pd.Series, mode: str) -> tuple[Colormap, Normalize]:
    """Return colours from pale (bad) to dark (good), and where they begin and end."""
    low, high = _ends(values.tolist())
    shades: Callable[[np.ndarray], np.ndarray] = colormaps["YlGnBu"]
    places = np.linspace(0.18, 0.95, 256)
    colours = ListedColormap(shades(places if mode == "max" else places[::-1]))
    return colours, Normalize(low - 0.5, low + 0.5) if _all_same(values) else Normalize(low, high)


_ORDER = ListedColormap(colormaps["YlGnBu"](np.linspace(0.25, 0.95, 256)))
