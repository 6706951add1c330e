"""Reliability diagrams and the risk-coverage curve. Research use only, not a medical device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from koa_lightning.reporting.figures import INK, QUIET, stamp

COLOUR, SECOND = "#0b6e99", "#c46a1b"
_TITLES = {"bins": "grade that is given", "bins_oa": "osteoarthritis (grade >= 2)"}


def reliability_figure(calibration: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """Reliability diagrams before and after recalibration, with the knees in each bin below.

    Args:
        calibration: What `eval` writes to `calibration.json`.
        title: What was measured.
        caveats: See `figures.stamp`.

    Returns:
        A figure of 8.8 x 8.4 inches; one column of diagrams where nothing was fitted.
    """
    fitted = calibration["method"] != "none"
    sides = ("before", "after") if fitted else ("before",)
    with sns.axes_style("ticks"):
        figure = Figure(figsize=(4.4 * len(sides), 8.4), layout="constrained")
        panels = figure.subplots(4, len(sides), squeeze=False, sharex=True, height_ratios=(3, 1, 3, 1))
    for column, side in enumerate(sides):
        for row, bins in enumerate(_TITLES):
            upper, lower = panels[2 * row][column], panels[2 * row + 1][column]
            _diagram(upper, calibration[bins][side])
            _counts(lower, calibration[bins][side])
            upper.set_title(f"{_TITLES[bins]}, {side if fitted else 'as they are'}", loc="left", fontsize=11, color=INK)
        ece, loss = calibration[side]["ece"], calibration[side]["log_loss"]
        panels[0][column].text(0.04, 0.93, f"ECE {ece:.3f}\nlog loss {loss:.3f}", va="top", fontsize=9, color=INK)
        panels[-1][column].set_xlabel("probability", color=QUIET)
    how = calibration.get("measured", calibration.get("left_out", ""))
    figure.suptitle(f"{title}: {calibration['method']} calibration" if fitted else f"{title}: not calibrated",
                    x=0.02, ha="left", fontsize=13, fontweight="bold", color=INK)  # fmt: skip
    if how:
        figure.supxlabel(how, x=0.02, ha="left", fontsize=9, color=QUIET)
    stamp(figure, caveats)
    return figure


def risk_coverage_figure(abstention: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """Share of wrong grades among the knees that are graded, against the share that is graded.

    Args:
        abstention: What `eval` writes to `abstention.json`.
        title: What was measured.
        caveats: See `figures.stamp`.

    Returns:
        A figure of 6 x 4.6 inches.
    """
    with sns.axes_style("ticks", {"axes.grid": True, "grid.color": "#e8ebee"}):
        figure = Figure(figsize=(6, 4.6), layout="constrained")
        axes = figure.subplots()
    coverage, risk = zip(*abstention["curve"], strict=True)
    axes.plot(coverage, risk, color=COLOUR, linewidth=1.8, label=f"by confidence: area {abstention['aurc']:.3f}")
    axes.axhline(abstention["risk"], color=QUIET, linestyle=(0, (4, 3)), linewidth=1, label="in no order")
    if abstention["threshold"] and abstention["risk_at_threshold"] is not None:
        at, wrong = abstention["coverage_at_threshold"], abstention["risk_at_threshold"]
        label = f"threshold {abstention['threshold']:.2f}: {at:.0%} graded, {wrong:.1%} of them wrong"
        axes.plot(at, wrong, "o", color=SECOND, label=label)
    axes.set(xlim=(0, 1.01), ylim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("knees that are graded, the most certain first", color=QUIET)
    axes.set_ylabel("wrong grades among them", color=QUIET)
    axes.set_title(f"{title}: {abstention['n_knees']} knees", loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    sns.despine(ax=axes)
    stamp(figure, caveats)
    return figure


def _diagram(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Draw what happened in each bin against what was said; small bins are small dots."""
    filled = [row for row in bins if row["n"]]
    most = max(row["n"] for row in filled)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    for row in filled:
        axes.plot([row["confidence"]] * 2, [row["confidence"], row["share"]], color=SECOND, linewidth=1.2, alpha=0.8)
    sizes = [12 + 60 * row["n"] / most for row in filled]
    axes.scatter(
        [row["confidence"] for row in filled], [row["share"] for row in filled], s=sizes, color=COLOUR, zorder=3
    )
    axes.set(xlim=(0, 1), ylim=(-0.03, 1.03))
    axes.set_ylabel("observed frequency", color=QUIET)
    sns.despine(ax=axes)


def _counts(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    for row in bins:
        axes.bar(row["low"], row["n"], width=row["high"] - row["low"], align="edge", color="#cfd8de", edgecolor="white")
        if row["n"]:
            middle = (row["low"] + row["high"]) / 2
            axes.text(middle, row["n"], str(row["n"]), ha="center", va="bottom", fontsize=6, color=QUIET)
    axes.set_ylabel("knees", color=QUIET)
    axes.margins(y=0.25)
    sns.despine(ax=axes)
