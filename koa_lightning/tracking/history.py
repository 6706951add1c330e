"""The metrics of a run, kept in memory for the curves of its report."""

from __future__ import annotations

from collections.abc import Mapping


class History:
    """Every value of every metric with its step."""

    def __init__(self, past: Mapping[str, list[tuple[int, float]]] | None = None) -> None:
        self._values: dict[str, list[tuple[int, float]]] = {name: list(rows) for name, rows in (past or {}).items()}

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add the metrics of one step."""
        for name, value in values.items():
            self._values.setdefault(name, []).append((step, float(value)))

    def rows(self) -> dict[str, list[tuple[int, float]]]:
        """Return (step, value) of each metric, in the order of logging."""
        return {name: list(rows) for name, rows in self._values.items()}
