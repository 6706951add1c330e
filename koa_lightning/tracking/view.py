"""How MLflow's pages open an experiment of trainings: its kind, and the columns that matter, best run first."""

from __future__ import annotations

import json
from typing import Any

KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment that opens in MLflow's pages for model training, not in those for language models."""
SHARED = "koa-best-first"
_SORTED_BY = "best/quadratic_kappa"
_METRICS = (
    "best/quadratic_kappa", "best/accuracy", "best/mae", "best/epoch",
    "test/quadratic_kappa", "test/accuracy", "test/mae",
)  # fmt: skip
_TAGS = ("data", "marks")


def tags() -> dict[str, str]:
    """Return the tags of an experiment that its pages read: its kind, and the view that `address` opens."""
    columns = [f"metrics.`{name}`" for name in _METRICS] + [f"tags.`{name}`" for name in _TAGS]
    state: dict[str, Any] = {
        "orderByKey": f"metrics.`{_SORTED_BY}`",
        "orderByAsc": False,
        "searchFilter": "",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": ["attributes.`Created`", "attributes.`Duration`", *columns],
    }
    return {**KIND, f"mlflow.sharedViewState.{SHARED}": json.dumps(state)}


def address(experiment_id: str) -> str:
    """Return the end of the address of an experiment's runs, best first, below that of the server.

    It names no order of its own: the pages ignore a shared view as soon as the address holds a part of one.
    """
    return f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={SHARED}"
