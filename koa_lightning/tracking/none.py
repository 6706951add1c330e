"""tracking=none: a run that writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koa_lightning.tracking.history import History


class NoRun:
    """Has the methods of `MlflowRun` but keeps only the history of the metrics.

    Attributes:
        run_id: An empty string.
        name: An empty string.
        experiment: An empty string.
        experiment_id: An empty string.
        uri: An empty string.
    """

    run_id = ""
    name = ""
    experiment = ""
    experiment_id = ""
    uri = ""

    def __init__(self) -> None:
        self._history = History()

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        """Add to the history."""
        self._history.add({name: float(value) for name, value in metrics.items()}, step)

    def log_tags(self, tags: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_artifact(self, local: Path, folder: str | None = None) -> None:
        """Do nothing."""

    def log_text(self, text: str, file: str) -> None:
        """Do nothing."""

    def log_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any], context: str) -> None:
        """Do nothing."""

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """Return (step, value) of each metric."""
        return self._history.rows()

    def end_children(self) -> None:
        """Do nothing."""

    def delete_if_childless(self) -> bool:
        """Do nothing."""
        return False

    def close(self, status: str = "FINISHED") -> list[str]:
        """Return an empty list: there was nothing to deliver."""
        return []
