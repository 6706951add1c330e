"""The figure of the study, from results.csv: the gain of each short run over the run `rank`, and its cost.

A run that was compared with another one, trained beside it, says so; its minutes, of another machine, are not shown.

    python -m experiments.recipe.picture

Research use only, not a medical device.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.reporting.saving import save, stamp
from koa_lightning.reporting.style import INK, QUIET

HERE = Path(__file__).parent
REFERENCE = "rank"  # of the short runs, whose names begin with it
SEED, TOGETHER = f"{REFERENCE}_seed_", f"{REFERENCE}_and_"
COLOURS = {"speed": "#b5651d", "another seed": "#8a96a3", "together": "#3a7d44", "": "#0b6e99"}  # by what a run asks
FAR = 0.07  # gains beyond it are shown there, with their number
PANELS = {"accuracy": "accuracy", "quadratic_kappa": "quadratic kappa"}


def draw(results: Path = HERE / "results.csv") -> Path | None:
    """Draw the figure beside the table, from the largest gain of kappa to the least; None if there is none."""
    rows = pd.read_csv(results)
    rows = rows[(rows["tta"] == "flip") & rows["name"].str.startswith(REFERENCE)].set_index("name")
    gaining = "quadratic_kappa_gain" in rows and rows["quadratic_kappa_gain"].notna().any()
    if REFERENCE not in rows.index or not gaining:
        return None
    base = rows.loc[REFERENCE]
    rows = rows.dropna(subset="quadratic_kappa_gain").sort_values("quadratic_kappa_gain", ascending=False)
    places = range(len(rows))
    colours = [next(c for part, c in COLOURS.items() if part in asks) for asks in rows["asks"]]
    figure = Figure(figsize=(11, 2.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.4], sharey=True)
    for ax, (metric, title) in zip(axes, PANELS.items(), strict=False):
        _panel(ax, rows, metric, colours)
        ax.set_title(f"{title}, over {base[metric]:.3f}", color=INK, fontsize=11, loc="left")
    axes[2].barh(places, rows["minutes_alone"].where(_over(rows) == REFERENCE), color=colours, height=0.6, alpha=0.45)
    axes[2].axvline(base["minutes_alone"], color=QUIET, lw=1, ls="--")
    axes[2].set_title("minutes", color=INK, fontsize=11, loc="left")
    axes[2].spines[["top", "right", "left"]].set_visible(False)
    axes[2].tick_params(colors=INK, length=0)
    axes[0].set_yticks(places, labels(rows, base["overrides"]))
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    note = (
        f"What one change brings to a short run, {base['knees']} validation knees, mirrored image averaged\n"
        "bars: 95 % intervals by patient; gray: what another seed does; brown: for speed; green: runs "
        "together; dashed: the run `rank`"
    )
    figure.suptitle(note, color=INK, fontsize=11, x=0.01, ha="left")
    stamp(figure)
    return save(figure, results.with_suffix(".png"))[0]


def labels(rows: pd.DataFrame, base: str) -> list[str]:
    """Return what each run, a row by name, has that the reference has not, and over which other one it gains."""
    over = ["" if name == REFERENCE else f" (over {name})" for name in _over(rows)]
    return [f"{_differs(*row, base)}{other}" for row, other in zip(rows["overrides"].items(), over, strict=True)]


def _over(rows: pd.DataFrame) -> pd.Series:
    return rows["against"].fillna(REFERENCE) if "against" in rows else pd.Series(REFERENCE, index=rows.index)


def _differs(name: str, overrides: str, base: str) -> str:
    """Return the overrides that the reference does not have, or what differs between runs that are taken together."""
    if name.startswith(TOGETHER):
        return f"{len(overrides.split())} {name.removeprefix(TOGETHER)}"
    known = set(shlex.split(base))
    return " ".join(override for override in shlex.split(overrides) if override not in known)


def _panel(ax: Axes, rows: pd.DataFrame, metric: str, colours: list[str]) -> None:
    places, gains = range(len(rows)), rows[f"{metric}_gain"]
    low, at, high = (rows[f"{metric}_gain{end}"].clip(-FAR, FAR) for end in ("_low", "", "_high"))
    ax.hlines(places, low, high, color=colours, lw=2)
    ax.scatter(at, places, c=colours, s=45, zorder=3)
    for place, gain, x in zip(places, gains, at, strict=True):
        where, side, word = ((0, 4), "center", "") if gain == x else ((-4, 4), "left", ", far off")
        ax.annotate(
            f"{gain:+.3f}{word}", (x, place), where, textcoords="offset points", ha=side, fontsize=7, color=QUIET
        )
    of_seeds = gains[gains.index.str.startswith(SEED)].abs().max()
    if pd.notna(of_seeds):
        ax.axvspan(-of_seeds, of_seeds, color="#eef0f2", zorder=-1)
    ax.axvline(0, color=QUIET, lw=1, ls="--", zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(colors=INK, length=0)
    ax.grid(axis="x", color="#e3e6e9", lw=0.7)
    ax.set_axisbelow(True)


if __name__ == "__main__":
    print(draw() or f"no figure: {HERE / 'results.csv'} has no short runs beside {REFERENCE}")
