"""One figure of all tests of explanations. Research use only, not a medical device."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.explain.sanity import MOST_ALIKE
from koa_lightning.explain.shortcut import MOST_SURVIVES
from koa_lightning.explain.verdict import FAILED, PASSED
from koa_lightning.reporting.figures import CAVEAT_COLOUR, INK, QUIET, stamp

COLOURS = {"map": "#0b6e99", "random": "#8a96a3", "centre": "#c98b2b"}
_VERDICTS = {PASSED: "#2e7d4f", FAILED: CAVEAT_COLOUR}


def explanations_figure(results: Mapping[str, Any], label: str, caveats: Sequence[str] = ()) -> Figure:
    """Draw what the tests of explanations found.

    Args:
        results: What `koa_lightning.explain.examine.examine` returns.
        label: Of the method.
        caveats: See `koa_lightning.reporting.figures.stamp`.
    """
    figure = Figure(figsize=(13, 7.4), layout="constrained")
    places = figure.subplots(2, 3)
    faithful = results["faithfulness"]
    _curves(places[0, 0], faithful["deletion"], "Deletion: the hottest go", results["target"])
    _curves(places[0, 1], faithful["insertion"], "Insertion: the hottest come back", results["target"])
    _bars(places[0, 2], faithful["road"], "ROAD: hottest against coldest")
    _layers(places[1, 0], results["sanity"], results["noise"])
    local = results["localisation"]
    _bars(places[1, 1], local["share"], f"Heat in the {local['region']}", local["area"])
    _shortcut(places[1, 2], results["shortcut"])
    knees = f"{results['n']} knees of {results['n_patients']} patients"
    figure.suptitle(f"Tests of {label} ({knees})", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    stamp(figure, caveats)
    return figure


def _title(axes: Axes, title: str, verdict: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_title(verdict, loc="right", fontsize=10.5, fontweight="bold", color=_VERDICTS.get(verdict, QUIET))
    axes.tick_params(labelsize=8, colors=QUIET)
    sns.despine(ax=axes)


def _curves(axes: Axes, test: Mapping[str, Any], title: str, target: str) -> None:
    for name, colour in COLOURS.items():
        values = test["curve"][name]
        shares = np.linspace(0, 100, len(values))
        label = f"{name} (area {test[name]:.3f})"
        axes.plot(shares, values, color=colour, linewidth=2.4 if name == "map" else 1.6, marker="o", ms=3, label=label)
    axes.set_xlabel("% of pixels", fontsize=9, color=QUIET)
    axes.set_ylabel("expected grade" if target == "expected" else "probability of the grade", fontsize=9, color=QUIET)
    axes.set_ylim(0, 1.08 * max(max(test["curve"][name]) for name in COLOURS))
    axes.legend(frameon=False, fontsize=8)
    _title(axes, title, test["verdict"])
    _say_difference(axes, test)


def _bars(axes: Axes, test: Mapping[str, Any], title: str, area: float | None = None) -> None:
    values = [test[name] if test[name] is not None else np.nan for name in COLOURS]
    bars = axes.bar(list(COLOURS), values, color=list(COLOURS.values()), width=0.6)
    axes.bar_label(bars, [f"{value:.3f}" for value in values], fontsize=8, color=INK, padding=2)
    axes.axhline(0, color=QUIET, linewidth=0.8)
    if area is not None:
        axes.axhline(area, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "its share of the picture", (0.99, area), xycoords=("axes fraction", "data"), ha="right", va="bottom",
            fontsize=8, color=INK, bbox={"fc": "white", "ec": "none", "alpha": 0.75, "pad": 1},
        )  # fmt: skip
    axes.margins(y=0.15)
    _title(axes, title, test["verdict"])
    _say_difference(axes, test)


def _say_difference(axes: Axes, test: Mapping[str, Any]) -> None:
    if test["low"] is None:
        words = "too few patients for an interval"
    else:
        limits = f"{test['low']:+.3f} to {test['high']:+.3f}; above 0 is better"
        words = f"against {test['against']} {test['difference']:+.3f} ({limits})"
    axes.text(0.0, -0.24, words, transform=axes.transAxes, fontsize=8.5, color=INK, va="top")


def _layers(axes: Axes, test: Mapping[str, Any], noise: Mapping[str, Any]) -> None:
    layers = test["layers"]
    values = np.array([layer["similarity"] for layer in layers])
    steps = np.arange(len(layers))
    if layers[0]["low"] is not None:
        limits = np.array([[layer["low"], layer["high"]] for layer in layers])
        axes.fill_between(steps, limits[:, 0], limits[:, 1], color=COLOURS["map"], alpha=0.2, linewidth=0)
    axes.plot(steps, values, color=COLOURS["map"], marker="o", ms=4, linewidth=2)
    axes.axhline(MOST_ALIKE, color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_xticks(steps, [layer["layer"] for layer in layers], rotation=60, ha="right")
    axes.set_ylim(min(-0.25, float(values.min()) - 0.1), 1.05)
    axes.set_ylabel("rank correlation with the map", fontsize=9, color=QUIET)
    axes.text(0.98, 0.96, f"under noise {noise['similarity']:.2f}: {noise['verdict']}", transform=axes.transAxes,
              ha="right", va="top", fontsize=8.5, color=_VERDICTS.get(noise["verdict"], QUIET))  # fmt: skip
    _title(axes, "Weights discarded down to", test["verdict"])


def _shortcut(axes: Axes, test: Mapping[str, Any]) -> None:
    names = {"kappa": "whole", "without_joint": "joint hidden", "only_joint": "joint alone"}
    for place, name in enumerate(names):
        value = test[name] if test[name] is not None else np.nan
        axes.bar(place, value, color=COLOURS["map"] if name == "kappa" else COLOURS["random"], width=0.6)
        if test[f"{name}_low"] is not None:
            axes.plot([place] * 2, [test[f"{name}_low"], test[f"{name}_high"]], color=INK, linewidth=1.4)
        axes.annotate(f" {value:.2f}", (place, max(value, test[f"{name}_high"] or 0)), ha="center", va="bottom",
                      fontsize=8, color=INK)  # fmt: skip
    axes.axhline(0, color=QUIET, linewidth=0.8)
    axes.set_xticks(range(len(names)), list(names.values()))
    axes.set_ylabel("quadratic kappa", fontsize=9, color=QUIET)
    axes.margins(y=0.15)
    _title(axes, "Shortcut: grade without the joint", test["verdict"])
    if test["survives"] is None:
        words = test["reason"] or "no interval"
    else:
        words = (
            f"without the joint {test['survives']:.0%} survives ({test['survives_low']:.0%} to "
            f"{test['survives_high']:.0%}; at most {MOST_SURVIVES:.0%})"
        )
    axes.text(0.0, -0.24, words, transform=axes.transAxes, fontsize=8.5, color=INK, va="top")
