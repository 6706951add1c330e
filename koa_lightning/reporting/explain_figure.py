"""One figure for all tests of explanations. Research use only, not a medical device."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.explain.sanity import MOST_ALIKE
from koa_lightning.explain.shortcut import MOST_SURVIVES
from koa_lightning.explain.verdict import FAILED, PASSED
from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, QUIET

CONTROLS = ("map", "random", "centre")


def _colours() -> dict[str, str]:
    series = style.palette()
    return {"map": series.main, "random": QUIET, "centre": series.second}


@style.drawn
def explanations_figure(results: Mapping[str, Any], label: str, caveats: Sequence[str] = ()) -> Figure:
    """Draw the results of the tests of explanations.

    Args:
        results: What `koa_lightning.explain.examine.examine` returns.
        label: Name of the method.
        caveats: See `koa_lightning.reporting.saving.stamp`.
    """
    width = style.inches(6.85)
    height = 0.25 * width + 7.2 + max(0.0, 4.2 * (3.4 - width))  # the words below the panels take more lines
    figure = Figure(figsize=(width, height), layout="constrained")
    places = figure.subplots(3, 2).ravel()
    room = width / 2 - 0.6
    faithful, local = results["faithfulness"], results["localisation"]
    _curves(places[0], faithful["deletion"], "Deletion, hottest first", results["target"], room)
    _curves(places[1], faithful["insertion"], "Insertion, hottest first", results["target"], room)
    _bars(places[2], faithful["road"], "ROAD: hottest against coldest", room)
    _bars(places[3], local["share"], f"Heat in the {local['region']}", room, local["area"])
    _layers(places[4], results["sanity"], results["noise"], room)
    _shortcut(places[5], results["shortcut"], room)
    knees = f"{results['n']} knees of {results['n_patients']} patients"
    style.figure_title(figure, f"Tests of {label} ({knees})")
    shown = {str(line.get_label()): line for line in places[0].lines}
    style.legend_below(figure, list(shown.values()))
    stamp(figure, caveats)
    return figure


def _title(axes: Axes, title: str, verdict: str, room: float) -> None:
    """Write the name of a test and, below it, its verdict in colour."""
    colours = {PASSED: style.palette().good, FAILED: style.palette().caveat}
    style.panel_title(axes, title, room, pad=style.small() * 1.5 + 4)
    axes.annotate(
        verdict, (0, 1), xytext=(0, 3), xycoords="axes fraction", textcoords="offset points", va="bottom",
        fontsize=style.small(), fontweight="bold", color=colours.get(verdict, QUIET),
    )  # fmt: skip
    axes.tick_params(colors=QUIET)
    sns.despine(ax=axes)


def _below(axes: Axes, words: str, room: float) -> None:
    """Write below a panel what its verdict rests on."""
    left = 0.45 if room > 2 else 0.0  # inches: extends below the labels of the vertical axis
    lines = style.wrap(words, room + left - 0.05, style.small())
    axes.set_xlabel(lines, fontsize=style.small(), color=INK, ha="left", x=-left / room)


def _curves(axes: Axes, test: Mapping[str, Any], title: str, target: str, room: float) -> None:
    for (name, colour), dashes in zip(_colours().items(), style.DASHES, strict=False):
        values = test["curve"][name]
        shares = np.linspace(0, 100, len(values))
        axes.plot(shares, values, color=colour, linestyle=dashes, linewidth=2 if name == "map" else 1.3, label=name)
    axes.set_ylabel("expected grade" if target == "expected" else "probability", color=QUIET)
    axes.set_ylim(0, 1.08 * max(max(test["curve"][name]) for name in CONTROLS))
    _title(axes, title, test["verdict"], room)
    areas = ", ".join(f"{name} {test[name]:.3f}" for name in CONTROLS)
    _below(axes, f"% of pixels. Areas: {areas};\n{_difference(test)}", room)


def _bars(axes: Axes, test: Mapping[str, Any], title: str, room: float, area: float | None = None) -> None:
    values = [test[name] if test[name] is not None else np.nan for name in CONTROLS]
    axes.set_xlim(-0.45, len(CONTROLS) - 0.55)
    bars = axes.bar(range(len(CONTROLS)), values, color=list(_colours().values()), width=0.6)
    _name(axes, CONTROLS, room)
    white = {"fc": "white", "ec": "none", "alpha": 0.85, "pad": 0.3}
    look: dict[str, Any] = {"fontsize": style.small(), "color": INK, "zorder": 4, "bbox": white}
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=2, **look)
    for place in np.flatnonzero(np.isnan(values)):  # no bar to label
        axes.annotate("none", (place, 0), xytext=(0, 3), textcoords="offset points", ha="center", va="bottom", **look)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    words = _difference(test)
    if area is not None:
        axes.axhline(area, color=QUIET, linewidth=1, linestyle=style.DASHES[1])
        words = f"Dashed: the region's share of the picture, {area:.0%}.\n{words}"
    axes.margins(y=0.3)  # for the numbers above and below the bars
    _title(axes, title, test["verdict"], room)
    _below(axes, words, room)


def _name(axes: Axes, names: Sequence[str], room: float) -> None:
    """Write names below bars; if they are tight, every second one is lowered."""
    axes.set_xticks(range(len(names)), names)
    longest = max(len(line) for name in names for line in name.split("\n"))
    tight = len(names) * longest * 0.6 * style.small() / 72 > 0.9 * room
    lines = 1 + max(name.count("\n") for name in names)
    for tick in axes.xaxis.get_major_ticks()[1::2] if tight else []:
        tick.set_pad(4 + 1.2 * style.small() * lines)  # points


def _difference(test: Mapping[str, Any]) -> str:
    if test["low"] is None:
        return "too few patients for an interval"
    limits = f"{test['low']:+.3f} to {test['high']:+.3f}; above 0 is better"
    return f"against {test['against']} {test['difference']:+.3f} ({limits})"


def _layers(axes: Axes, test: Mapping[str, Any], noise: Mapping[str, Any], room: float) -> None:
    layers = test["layers"]
    values = np.array([layer["similarity"] for layer in layers])
    steps = np.arange(len(layers))
    main = style.palette().main
    if layers[0]["low"] is not None:
        limits = np.array([[layer["low"], layer["high"]] for layer in layers])
        axes.fill_between(steps, limits[:, 0], limits[:, 1], color=main, alpha=0.2, linewidth=0)
    axes.plot(steps, values, color=main, marker="o", ms=3.5, linewidth=1.6)
    axes.axhline(MOST_ALIKE, color=QUIET, linewidth=1, linestyle=style.DASHES[1])
    axes.axhline(0, color=QUIET, linewidth=0.8)
    # as many names as fit, including the first and the last
    fit = max(2, int(room * 72 / (1.25 * style.small())))
    chosen = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), fit)).round().astype(int))
    axes.set_xticks(chosen, [layers[i]["layer"] for i in chosen], rotation=90)
    axes.set_ylim(min(-0.25, float(values.min()) - 0.1), 1.05)
    axes.set_ylabel("rank correlation", color=QUIET)
    _title(axes, "Weights randomised down to", test["verdict"], room)
    _below(
        axes, f"with the map of the trained network; under noise {noise['similarity']:.2f}: {noise['verdict']}", room
    )


def _shortcut(axes: Axes, test: Mapping[str, Any], room: float) -> None:
    names = {"kappa": "whole", "without_joint": "joint\nhidden", "only_joint": "joint\nalone"}
    for place, name in enumerate(names):
        value = test[name] if test[name] is not None else np.nan
        axes.bar(place, value, color=style.palette().main if name == "kappa" else QUIET, width=0.6)
        if test[f"{name}_low"] is not None:
            axes.plot([place] * 2, [test[f"{name}_low"], test[f"{name}_high"]], color=INK, linewidth=1.4)
        top = np.nanmax([value, test[f"{name}_high"] or 0, 0])
        words = "undefined" if np.isnan(value) else f"{value:.2f}"
        axes.annotate(words, (place, top), xytext=(0, 2), textcoords="offset points", ha="center", va="bottom",
                      fontsize=style.small(), color=INK)  # fmt: skip
    axes.axhline(0, color=QUIET, linewidth=0.8)
    _name(axes, list(names.values()), room)
    axes.set_ylabel("quadratic kappa", color=QUIET)
    axes.margins(y=0.3)
    _title(axes, "Shortcut: grade without the joint", test["verdict"], room)
    if test["survives"] is None:
        words = test["reason"] or "no interval"
    else:
        words = (
            f"without the joint {test['survives']:.0%} survives ({round(test['survives_low'], 2) + 0:.0%} to "
            f"{test['survives_high']:.0%}; at most {MOST_SURVIVES:.0%})"
        )
    _below(axes, words, room)
