"""The result of a job as a plain mapping, whatever launcher ran it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koa_lightning.config import trial
from koa_lightning.config.compose import nearest
from koa_lightning.sweeps.launch import DiedError


class Outcomes:
    """Reads the results of jobs; detects whether the machine ran out of memory meanwhile."""

    def __init__(self) -> None:
        self._kills = out_of_memory_kills()

    def read(self, job: Any) -> dict[str, Any]:
        """Return the result of `trial.Job`, or the reason why there is none.

        Args:
            job: Hydra's `JobReturn`.
        """
        value = job._return_value
        if isinstance(value, dict) and "state" in value:
            return value
        error = value if isinstance(value, Exception) else DiedError("the job left no result")
        before, self._kills = self._kills, out_of_memory_kills()
        if not isinstance(error, DiedError):
            return trial.failure(error)
        if self._kills > before:
            return failed(f"{error}, as the machine had no memory left", "out_of_memory")
        return failed(str(error), "error")


def failed(error: str, kind: str) -> dict[str, Any]:
    """Return the outcome of a job that failed."""
    return {"state": trial.FAILED, "error": error, "error_kind": kind}


def with_values(outcome: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return the outcome of a complete job with its `values`, or a failed one if a value is missing or not finite.

    Args:
        outcome: Outcome of a job that completed.
        names: The metrics; `seconds` is known for every job.
    """
    result = outcome.get("result")
    if isinstance(result, Mapping):
        known = {"seconds": outcome["seconds"], **result}
    else:
        numbers = result if isinstance(result, list) else [result]
        known = dict(zip(names, numbers, strict=True)) if len(numbers) == len(names) else {}
    missing = next((name for name in names if known.get(name) is None), None)
    if missing is not None:
        there = [name for name, value in known.items() if isinstance(value, int | float)]
        shown = ", ".join(there) or "no number"
        hint = nearest(missing, there)
        return failed(f"{missing}: no job reports this metric{hint} (reported: {shown})", "bad_input")
    values = {name: float(known[name]) for name in names}
    bad = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    return failed(bad[0], "diverged") if bad else {**outcome, "values": list(values.values())}


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since the machine started."""
    counters = Path("/proc/vmstat")
    lines = counters.read_text().splitlines() if counters.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
