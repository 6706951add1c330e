"""Reliability diagrams and the risk-coverage curve. Research use only, not a medical device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, PALE, QUIET

_TITLES = {"bins": "predicted grade", "bins_oa": "osteoarthritis (grade >= 2)"}
_WIDE = 4.5  # inches; from this width two diagrams stand side by side
_LARGEST = 7.0  # points: diameter of the dot of the fullest bin


@style.drawn
def reliability_figure(calibration: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """Reliability diagrams before and after recalibration, with the knees in each bin below.

    Args:
        calibration: What `eval` writes to `calibration.json`.
        title: What was evaluated.
        caveats: See `koa_lightning.reporting.saving.stamp`.

    Returns:
        A figure. If no calibration was fitted, it has one column of diagrams, or one row if the figure is wide.
    """
    fitted = calibration["method"] != "none"
    sides = ("before", "after") if fitted else ("before",)
    width = style.inches(3.2 * len(sides))
    blocks = [[(bins, side) for side in sides] for bins in _TITLES]
    if not fitted and width > _WIDE:  # stacked, they would be taller than a page
        blocks = [[(bins, "before") for bins in _TITLES]]
    n_rows, n_columns = len(blocks), len(blocks[0])
    with sns.axes_style("ticks"):
        figure = Figure(figsize=(width, n_rows * (0.75 * width / n_columns + 1) + 0.5), layout="constrained")
        panels = figure.subplots(
            2 * n_rows, n_columns, squeeze=False, sharex=True, sharey="row", height_ratios=(3, 1) * n_rows
        )
    for row, block in enumerate(blocks):
        for column, (bins, side) in enumerate(block):
            upper, lower = panels[2 * row][column], panels[2 * row + 1][column]
            _diagram(upper, calibration[bins][side])
            _counts(lower, calibration[bins][side], width / n_columns)
            what = f"{_TITLES[bins]}, {side}" if fitted else _TITLES[bins]
            style.panel_title(upper, what, 0.85 * width / n_columns)
    for axes in panels[-1]:
        axes.set_xlabel("probability", color=QUIET)
    for row in range(2 * n_rows):
        panels[row][0].set_ylabel("knees" if row % 2 else "observed\nfrequency", color=QUIET)
    name = f"{calibration['method']} calibration" if fitted else "not calibrated"
    scores = [f"{side}: " * fitted + f"ECE {calibration[side]['ece']:.3f}, log loss {calibration[side]['log_loss']:.3f}"
              for side in sides]  # fmt: skip
    style.figure_title(figure, f"{title}: {name}")
    how = calibration.get("measured", calibration.get("left_out", ""))
    below = "\n".join(style.wrap(line, width - 0.2, style.small()) for line in [*scores, how] if line)
    style.legend_below(figure, [], below)
    stamp(figure, caveats)
    return figure


@style.drawn
def risk_coverage_figure(abstention: Mapping[str, Any], title: str, caveats: Sequence[str] = ()) -> Figure:
    """Risk-coverage curve: the error rate of the graded knees against the share that is graded.

    Args:
        abstention: What `eval` writes to `abstention.json`.
        title: What was evaluated.
        caveats: See `koa_lightning.reporting.saving.stamp`.

    Returns:
        A figure, by default 4.6 inches wide.
    """
    width = style.inches(4.6)
    with sns.axes_style("ticks", {**style.GRID, "axes.grid.axis": "both"}):
        figure = Figure(figsize=(width, 0.6 * width + 1.3), layout="constrained")
        axes = figure.subplots()
    coverage, risk = zip(*abstention["curve"], strict=True)
    colours = style.palette()
    axes.plot(coverage, risk, color=colours.main, linewidth=1.6, label=f"by confidence: area {abstention['aurc']:.3f}")
    axes.axhline(abstention["risk"], color=QUIET, linestyle=style.DASHES[1], linewidth=1, label="random order")
    if abstention["threshold"] and abstention["risk_at_threshold"] is not None:
        at, wrong = abstention["coverage_at_threshold"], abstention["risk_at_threshold"]
        label = f"threshold {abstention['threshold']:.2f}: {at:.0%} graded, {wrong:.1%} of them wrong"
        axes.plot(at, wrong, "o", color=colours.second, label=label, clip_on=False)
    axes.set(xlim=(0, 1.01), ylim=(0, None))
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("coverage: knees graded, most certain first", color=QUIET, wrap=True)
    axes.set_ylabel("error rate", color=QUIET)
    style.panel_title(axes, f"{title}: {abstention['n_knees']} knees", width - 0.8)
    style.legend_below(figure, axes.lines)
    sns.despine(ax=axes)
    stamp(figure, caveats)
    return figure


def _diagram(axes: Axes, bins: Sequence[Mapping[str, Any]]) -> None:
    """Draw the observed frequency of each bin against its mean probability; the dot grows with the number of knees."""
    filled = [row for row in bins if row["n"]]
    most = max(row["n"] for row in filled)
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=style.DASHES[1])
    second = style.palette().second
    for row in filled:
        axes.plot(
            [row["confidence"]] * 2, [row["confidence"], row["share"]], color=second, linewidth=1.2, clip_on=False
        )
    sizes = [8 + (_LARGEST**2 - 8) * row["n"] / most for row in filled]
    axes.scatter(
        [row["confidence"] for row in filled], [row["share"] for row in filled], s=sizes, color=style.palette().main,
        zorder=3, clip_on=False,
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(-0.04, 1.04), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    sns.despine(ax=axes)


def _counts(axes: Axes, bins: Sequence[Mapping[str, Any]], width: float) -> None:
    """Draw the number of knees in each bin, written above the bars if the figure is wide enough."""
    longest = max(len(str(row["n"])) for row in bins)
    numbered = len(bins) * longest * 0.6 * style.small() / 72 < 0.75 * width
    for row in bins:
        axes.bar(row["low"], row["n"], width=row["high"] - row["low"], align="edge", color=PALE, edgecolor="white")
        if row["n"] and numbered:
            middle = (row["low"] + row["high"]) / 2
            axes.text(middle, row["n"], str(row["n"]), ha="center", va="bottom", fontsize=style.small(), color=INK)
    axes.margins(y=0.35 if numbered else 0.05)
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    sns.despine(ax=axes)
