"""The importance of a sweep's keys. Research use only.

fANOVA: Hutter, Hoos and Leyton-Brown 2014. PED-ANOVA: Watanabe, Bansal and Hutter 2023, in the form
for conditional keys that Optuna 5 has.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from koa_lightning.config.overrides import short_names
from koa_lightning.reporting import style
from koa_lightning.reporting.saving import stamp
from koa_lightning.reporting.style import INK, QUIET
from koa_lightning.sweeps.figures.history import NotEnough, are, varied
from koa_lightning.sweeps.results import Sweep

MIN_TRIALS = 10
"""The fewest complete trials for an importance; with fewer, it would reflect chance more than the keys."""
_TOP_TRIALS = 5  # or a tenth of all, if that is more: PED-ANOVA compares these with the others
EVALUATORS = {
    "fANOVA": "share of the variance over all trials (Hutter 2014)",
    "PED-ANOVA": "what sets the best apart (Watanabe 2023)",
}


@style.drawn
def importance_figure(sweep: Sweep) -> Figure:
    """Which keys mattered, by two of Optuna's evaluators; fANOVA takes only keys that every complete trial used."""
    keys, done = varied(sweep), sweep.complete
    if len(done) < MIN_TRIALS:
        raise NotEnough(f"{MIN_TRIALS} complete trials are needed, there {are(len(done))}")
    keys = [key for key in keys if len(set(map(repr, sweep.params.loc[done.index, key]))) > 1]
    if not keys:
        raise NotEnough("no key differs between the complete trials")
    metrics = [i for i, metric in enumerate(sweep.metrics) if len(set(done[metric])) > 1]
    if not metrics:
        raise NotEnough("all complete trials have the same value")
    width = style.inches(5.6)
    height = 1.3 + (3.2 * style.small() / 72 * len(keys) + 0.6) * len(metrics)
    with sns.axes_style("ticks", {**style.GRID, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    for axes, i in zip(panels, metrics, strict=True):
        _draw_importance(axes, importances(sweep, keys, i), short_names(sweep.varied), width)
        axes.set_xlabel(f"importance for {sweep.metrics[i]}", color=QUIET)
    style.legend_below(figure, panels[0].containers)
    style.figure_title(figure, f"Importance over {len(done)} complete trials")
    stamp(figure, sweep.caveats)
    return figure


def importances(sweep: Sweep, keys: list[str], objective: int = 0) -> pd.DataFrame:
    """Return the importance of keys (rows) by evaluator (columns), each adding up to 1; most important first.

    Args:
        sweep: A sweep with at least two complete trials.
        keys: Keys that differ between complete trials; fANOVA is NaN for keys that some trials did not use, PED-ANOVA
            for keys that fewer than MIN_TRIALS used.
        objective: Index of the metric.
    """
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances

    def value(trial: Any) -> float:
        return float(trial.values[objective])  # noqa: PD011

    def signed(trial: Any) -> float:  # PED-ANOVA minimises its target
        return value(trial) * (-1 if sweep.modes[objective] == "max" else 1)

    frame = sweep.params.loc[sweep.complete.index]
    used = {key: sum(value is not None for value in frame[key]) for key in keys}
    everywhere = [key for key in keys if used[key] == len(frame)]
    often = [key for key in keys if used[key] >= min(MIN_TRIALS, len(frame))]
    share = min(0.5, max(0.1, _TOP_TRIALS / len(frame)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns about minimised targets, and about the small weight of rare choices
        ped_anova = PedAnovaImportanceEvaluator(target_quantile=share)
        found = {
            "fANOVA": get_param_importances(
                sweep.study, evaluator=FanovaImportanceEvaluator(seed=0), params=everywhere, target=value
            )
            if everywhere
            else {},
            "PED-ANOVA": get_param_importances(sweep.study, evaluator=ped_anova, params=often, target=signed),
        }
    return pd.DataFrame(found, index=keys, columns=list(found)).sort_values(list(found), ascending=False)


def _draw_importance(axes: Axes, table: pd.DataFrame, names: dict[str, str], width: float) -> None:
    rows = np.arange(len(table))
    nothing = ("not used by every trial", f"used by fewer than {MIN_TRIALS} trials")
    colours = style.palette().main, style.palette().series[3]
    for offset, words_of_none, colour, (evaluator, words) in zip(
        (-0.19, 0.19), nothing, colours, EVALUATORS.items(), strict=True
    ):
        values = table[evaluator].to_numpy(dtype=float)
        axes.barh(rows + offset, np.nan_to_num(values), height=0.34, color=colour, label=f"{evaluator}: {words}")
        for row, share in zip(rows, values, strict=True):
            text = words_of_none if np.isnan(share) else f"{share:.2f}"
            axes.text(
                np.nan_to_num(share) + 0.008, row + offset, text, va="center", fontsize=style.small(), color=QUIET
            )
    names_ = [style.wrap(names[str(key)], 0.3 * width, style.small()) for key in table.index]
    axes.set_yticks(rows, names_)
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlim(0, 1.2)
    axes.set_xticks([0, 0.5, 1])
    axes.tick_params(axis="y", length=0, colors=INK)
    sns.despine(ax=axes, left=True)
