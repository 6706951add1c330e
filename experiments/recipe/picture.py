"""The figure of the study, from results.csv: what each run reaches on the validation part.

    python -m experiments.recipe.picture

Research use only, not a medical device.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.reports.figures import INK, QUIET, save, stamp

HERE = Path(__file__).parent
LONG, SHORT, REFERENCE = "#0b6e99", "#8a96a3", "rank"
PANELS = {"accuracy": "accuracy", "quadratic_kappa": "quadratic kappa"}


def draw(folder: Path = HERE) -> Path:
    """Draw `results.png` beside the table; return it. Long runs come first, then the short ones from best to worst."""
    rows = pd.read_csv(folder / "results.csv")
    rows = rows[rows["tta"] == "flip"]
    rows = rows.assign(short=rows["name"].str.startswith(REFERENCE))
    rows = rows.sort_values(["short", "quadratic_kappa"], ascending=[True, False]).reset_index(drop=True)
    figure = Figure(figsize=(10, 1.6 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.35], sharey=True)
    for ax, (metric, title) in zip(axes, PANELS.items(), strict=False):
        _panel(ax, rows, metric)
        ax.set_title(title, color=INK, fontsize=11, loc="left")
    axes[2].barh(rows.index, rows["minutes_alone"], color="#d5dade", height=0.6)
    axes[2].set_title("minutes", color=INK, fontsize=11, loc="left")
    axes[2].spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(rows.index, rows["name"])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    note = (
        f"validation part, {rows['knees'].max()} knees, mirrored image averaged; bars: 95 % intervals by patient; "
        f"dashed: the run `{REFERENCE}`"
    )
    figure.suptitle(note, color=INK, fontsize=10, x=0.01, ha="left")
    stamp(figure)
    return save(figure, folder / "results.png")


def _panel(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    colours = [SHORT if short else LONG for short in rows["short"]]
    ax.hlines(rows.index, rows[f"{metric}_low"], rows[f"{metric}_high"], color=colours, lw=2)
    ax.scatter(rows[metric], rows.index, c=colours, s=45, zorder=3)
    for row, value in rows[metric].items():
        ax.annotate(
            f"{value:.3f}", (value, row), (0, 5), textcoords="offset points", ha="center", fontsize=7.5, color=QUIET
        )
    reference = rows.loc[rows["name"] == REFERENCE, metric]
    if len(reference):
        ax.axvline(reference.iloc[0], color=SHORT, lw=1, ls="--", zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(colors=INK, length=0)
    ax.grid(axis="x", color="#e3e6e9", lw=0.7)
    ax.set_axisbelow(True)


if __name__ == "__main__":
    print(f"written to {draw()}")
