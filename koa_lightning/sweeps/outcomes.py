"""What came of a job, whatever launcher ran it, as a plain mapping."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from koa_lightning.config import trial
from koa_lightning.config.compose import nearest
from koa_lightning.sweeps.launch import DiedError


class Outcomes:
    """Reads what jobs return; knows whether the machine ran out of memory meanwhile."""

    def __init__(self) -> None:
        self._kills = out_of_memory_kills()

    def read(self, job: Any) -> dict[str, Any]:
        """Return what `trial.Job` said, or why there is nothing.

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
    """Return the outcome of a complete job with its `values`, or that of one that did not report them.

    Args:
        outcome: Of a job that came to its end.
        names: The metrics; `seconds` is known of every job.
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
    """Return how many processes the kernel has ended for want of memory since the machine was started."""
    counters = Path("/proc/vmstat")
    lines = counters.read_text().splitlines() if counters.is_file() else []
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
