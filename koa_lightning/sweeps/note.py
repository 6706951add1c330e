"""The description of a sweep's MLflow run, as Markdown: its best trials, with links to their runs."""

from __future__ import annotations

from typing import Any

from koa_lightning import DISCLAIMER
from koa_lightning.config.overrides import short_names
from koa_lightning.sweeps.results import Sweep, show

TAG = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run."""
_ROWS = 5


def note(sweep: Sweep, experiment_id: str) -> str:
    """Return the description.

    Args:
        sweep: The sweep with its trials.
        experiment_id: MLflow's id of the experiment that holds their runs.
    """
    keys = sweep.varied
    names = short_names(keys)
    head = ["trial", *sweep.metrics, *(names[key] for key in keys)]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for number in [n for n in sweep.ranking if n in sweep.complete.index][:_ROWS]:
        values = [f"{sweep.trials[name][number]:.4f}" for name in sweep.metrics]
        used = ["-" if value is None else show(value) for value in sweep.params.loc[number, keys]]
        lines.append(f"| {' | '.join([_link(sweep, number, experiment_id), *values, *used])} |")
    counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
    best = f"**Best: {', '.join(_link(sweep, n, experiment_id) for n in sweep.front)}**" if sweep.front else "None yet"
    caveats = [f"**{', '.join(sweep.caveats)}: not a result**"] if sweep.caveats else []
    where = "Figures, trials.csv and best.yaml: tab Artifacts, folder `sweep`"
    return "\n\n".join([f"{best} ({counts})", "\n".join(lines), where, *caveats, DISCLAIMER])


def _link(sweep: Sweep, number: int, experiment_id: str) -> str:
    runs: list[Any] = sweep.attrs[number].get("run_ids") or []
    return f"[trial {number}](#/experiments/{experiment_id}/runs/{runs[0]})" if runs else f"trial {number}"
