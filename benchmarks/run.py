"""All speed and memory ratios, measured side by side: `python -m benchmarks.run [NAME ...]` (`make bench`).

Each benchmark is a module with `measure() -> list[dict]`; a row holds `name`, `ratio`, `goal`, `detail`, and
`lower=True` if less is better; the goal of a row that only explains another is None. Each runs in its own process.
The table is printed at the end and stored in `benchmarks/results/latest.json`. The exit code is 1 if a goal is missed
or a benchmark failed, and 2 for an unknown name.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.process import in_own_process

NAMES = (
    "loader", "augment", "cache_build", "fit", "precision", "memory", "intervals", "cam", "load", "serve", "export",
)  # fmt: skip
RESULTS = Path(__file__).resolve().parent / "results" / "latest.json"


def met(row: dict) -> bool:
    """Tell whether a row reaches its goal; not-a-number never does, and a row without a goal always does."""
    if row["goal"] is None:
        return True
    return row["ratio"] <= row["goal"] if row.get("lower") else row["ratio"] >= row["goal"]


def table(rows: list[dict]) -> str:
    """Return the rows as lines of text: name, ratio, goal, met, detail."""
    width = max((len(row["name"]) for row in rows), default=4)
    lines = [f"{'name':<{width}}  {'ratio':>7}  {'goal':>8}  met  detail"]
    for row in rows:
        goal = "" if row["goal"] is None else f"{'<=' if row.get('lower') else '>='} {row['goal']:g}"
        verdict = "   " if row["goal"] is None else "yes" if met(row) else "NO "
        lines.append(f"{row['name']:<{width}}  {_shown(row):>7}  {goal:>8}  {verdict}  {row['detail']}")
    return "\n".join(lines)


def _shown(row: dict) -> str:
    """Return the ratio with three digits, or with as many more as show on which side of the goal it lies."""
    for digits in range(3, 8):
        shown = f"{row['ratio']:.{digits}g}"
        if met(row | {"ratio": float(shown)}) == met(row):
            break
    return shown


def print_table(rows: list[dict]) -> None:
    """Print the rows and the machine on which they were measured."""
    print(f"\n{machine()}\n\n{table(rows)}", flush=True)


def machine() -> str:
    """Return the processor, the threads that torch takes, and torch's version."""
    import torch

    from koa_lightning.training.precision import cpu_name

    return f"{cpu_name()}, {torch.get_num_threads()} threads, torch {version('torch')}"


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all; return the exit code."""
    if unknown := [name for name in names if name not in NAMES]:
        print(f"error: no benchmark '{unknown[0]}'; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    rows: list[dict] = []
    failed: list[str] = []
    others: dict[str, float] = {}
    for name in names or NAMES:
        print(f"== {name}", flush=True)
        start = _clocks()
        try:
            rows += in_own_process(f"benchmarks.{name}:measure")
        except subprocess.CalledProcessError:
            failed.append(name)
        seconds, busy, own = (now - then for now, then in zip(_clocks(), start, strict=True))
        others[name] = max(0.0, busy - own) / seconds
        print(f"== {name}: {seconds:.0f} s; other programs took {others[name]:.2f} cores meanwhile", flush=True)
    print_table(rows)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"machine": machine(), "rows": rows, "failed": failed, "cores_of_others": others}, indent=1)
    )
    print(f"\n{RESULTS}")
    return verdict(rows, failed)


def _clocks() -> tuple[float, float, float]:
    """Return the time, the busy time of all cores, and that of our finished processes, in seconds."""
    machine_wide, children = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = sum(machine_wide) - machine_wide.idle - getattr(machine_wide, "iowait", 0.0)
    return time.monotonic(), busy, children.ru_utime + children.ru_stime


def verdict(rows: list[dict], failed: list[str]) -> int:
    """Say what missed its goal and what failed; return the exit code."""
    missed = [row["name"] for row in rows if not met(row)]
    for kind, names in (("goal missed", missed), ("failed", failed)):
        if names:
            print(f"{kind}: {'; '.join(names)}", file=sys.stderr)
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
