"""The figure of the study, from its tables: each protocol's results on the same knees, and the audit's findings.

    python -m experiments.leakage.picture

Research use only, not a medical device.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.leakage.protocols import PROTOCOLS
from koa_lightning.reporting.saving import save, stamp
from koa_lightning.reporting.style import INK, QUIET, palette

HONEST = "#0b6e99"
PANELS = {"accuracy": "accuracy", "quadratic_kappa": "quadratic kappa"}


def draw(folder: Path) -> Path:
    """Draw `accuracy.png` in the folder of the tables; return it."""
    results = pd.read_csv(folder / "results.csv", dtype={"seed": "str"})
    audit = pd.read_csv(folder / "audit.csv").set_index("protocol")
    names = [name for name in PROTOCOLS if name in set(results["protocol"])]
    n_knees, n_seeds = results["knees"].max(), results.loc[results["seed"] != "all", "seed"].nunique()
    figure = Figure(figsize=(11, 1.5 + 0.78 * len(names)), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.75], sharey=True)
    for ax, (metric, title) in zip(axes, PANELS.items(), strict=False):
        _panel(ax, results, names, metric)
        ax.set_title(title, color=INK, fontsize=11, loc="left")
    axes[0].set_yticks(range(len(names)), [PROTOCOLS[name].words for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    _verdicts(axes[2], audit, names)
    seeds = "one seed" if n_seeds == 1 else f"mean of {n_seeds} seeds (small dots: each)"
    note = f"{seeds}; bars: 95 % intervals by patient; dashed: the honest value"
    title = f"The same network, the same {n_knees} test knees, as many training images: only the split differs"
    figure.suptitle(f"{title}\n{note}", color=INK, fontsize=12, x=0.01, ha="left")
    stamp(figure)
    return save(figure, folder / "accuracy.png")[0]


def _panel(ax: Axes, results: pd.DataFrame, names: list[str], metric: str) -> None:
    for row, name in enumerate(names):
        own = results[results["protocol"] == name]
        total = own[own["seed"] == "all"].iloc[0]
        colour = HONEST if name == "by_patient" else palette().caveat
        ax.hlines(row, total[f"{metric}_low"], total[f"{metric}_high"], color=colour, lw=2.5)
        ax.plot(total[metric], row, "o", color=colour, ms=9)
        single = own.loc[own["seed"] != "all", metric]
        ax.plot(single, [row + 0.22] * len(single), "o", color=colour, ms=3, alpha=0.6)
        ax.annotate(f"{total[metric]:.3f}", (total[metric], row - 0.16), ha="center", va="bottom", color=colour)
        if name == "by_patient":
            ax.axvline(total[metric], color=HONEST, lw=1, ls="--", zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(colors=INK, length=0)
    ax.grid(axis="x", color="#e3e6e9", lw=0.7)
    ax.set_axisbelow(True)


def _verdicts(ax: Axes, audit: pd.DataFrame, names: list[str]) -> None:
    ax.set_title("what the audit says of the files", color=INK, fontsize=11, loc="left")
    for row, name in enumerate(names):
        objects = audit.loc[name, "exit_code"] == 3
        words = str(audit.loc[name, "said"]).replace("; ", "\n")
        ax.text(0, row, f"objects: {words}" if objects else words, va="center", fontsize=8.5,
                color=palette().caveat if objects else QUIET, wrap=True)  # fmt: skip
    ax.set_axis_off()


if __name__ == "__main__":
    print(f"written to {draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)}")
