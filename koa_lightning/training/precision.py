"""Find how this machine trains fastest: the memory format, and the precision that wins a few timed steps."""

from __future__ import annotations

import copy
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from filelock import FileLock

from koa_lightning.models.plan import LIGHTNING, Plan, cpu_has_bf16

if TYPE_CHECKING:
    from torch import nn

FILE = "speed.json"
_STEPS = (3, 6)  # timed steps of each precision, in turn: of all, then of those near the fastest
_CONTRADICTED = 1 / 3  # how far the speed of a training may be from the measured one
_NEAR = 1.15  # times the fastest
_EDITION = "edition 8"  # change it when the measurement changes: older entries are then ignored


def cpu_name() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def choose(
    net: nn.Module,
    *,
    name: str,
    image_size: int,
    batch_size: int,
    precision: str,
    channels_last: bool,
    cuda: bool,
    memory: Path,
    quiet: bool = False,
) -> Plan:
    """Choose how to compute.

    `auto` takes bf16 on a GPU that has it. On a CPU that has it, a few training steps of each precision are timed. The
    winner is remembered for this machine, model, size and batch, until a training contradicts it (`heard`).

    Args:
        net: The network; a copy is timed, and the random state does not change.
        name: Name of the model, for the stored measurement.
        image_size: In pixels.
        batch_size: Images per step.
        precision: `auto`, or the one to use.
        channels_last: Whether to use that memory format.
        cuda: Whether a GPU computes.
        memory: Folder of `speed.json`.
        quiet: Print nothing.
    """
    if precision != "auto":
        return Plan(precision, channels_last, "as configured")
    if cuda:
        has = torch.cuda.is_bf16_supported()
        return Plan("bf16" if has else "fp32", channels_last, f"GPU {'with' if has else 'without'} bf16")
    if not cpu_has_bf16():
        return Plan("fp32", channels_last, "CPU without bf16")
    file = memory / FILE
    key = key_of(name, image_size, batch_size, channels_last)
    known = _remembered(file).get(key)
    if known and not known.get("contradicted"):
        return Plan(known["precision"], channels_last, f"remembered: {known['reason']}")
    if known:
        print(f"precision: {known['contradicted']}; measuring again", file=sys.stderr)
    elif not quiet:
        print("measuring fp32, bf16 and bf16-hybrid for a few steps, once per machine and model", file=sys.stderr)
    seconds = _seconds_a_step(net, [Plan(p, channels_last, "") for p in list(LIGHTNING)[:3]], image_size, batch_size)
    best = min(seconds, key=seconds.__getitem__)
    speeds = ", ".join(f"{p} {batch_size / s:.1f} img/s" for p, s in seconds.items())
    plan = Plan(best, channels_last, f"{speeds} ({load()})")
    _remember(file, key, {**asdict(plan), "speed": batch_size / seconds[best]})
    return plan


def key_of(name: str, image_size: int, batch_size: int, channels_last: bool) -> str:
    """Return the key under which the measurement of a model on this machine is stored."""
    layout = "channels_last" if channels_last else "contiguous"
    machine = (cpu_name(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}")
    return "|".join([*machine, name, f"{image_size} px", f"batch {batch_size}", layout, _EDITION])


def load() -> str:
    """Return a phrase that says how busy this machine was in the last minute."""
    return f"load {psutil.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def heard(file: Path, key: str, precision: str, speed: float) -> str:
    """Store the speed of a training beside the measured one; return a line if they contradict each other.

    Args:
        file: The stored measurements.
        key: From `key_of`.
        precision: Precision of the training.
        speed: Images per second.
    """
    known = _remembered(file).get(key)
    if known is None or known["precision"] != precision or not isinstance(known.get("speed"), int | float):
        return ""
    expected = known["speed"]
    if (1 - _CONTRADICTED) * expected <= speed <= expected / (1 - _CONTRADICTED):
        line = ""
    else:
        line = f"training in {precision} runs at {speed:.1f} img/s ({load()}), but measured were {known['reason']}"
    _remember(file, key, {**known, "trained": speed, "contradicted": line})
    return line and f"{line}; the next run measures again"


def _seconds_a_step(net: nn.Module, plans: Sequence[Plan], image_size: int, batch_size: int) -> dict[str, float]:
    """Return the fastest step of each precision; they take turns, so that a disturbance affects all."""

    def step(model: nn.Module, autocast: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = model(image).float().square().mean()
        loss.backward()
        model.zero_grad()
        return time.perf_counter() - start

    with torch.random.fork_rng(devices=[]):
        ways = {p.precision: (p.prepare(copy.deepcopy(net)).train(), p.precision != "fp32") for p in plans}
        image = torch.rand(batch_size, 1, image_size, image_size)
        for way in ways.values():
            step(*way)  # the first allocates the memory
        times: dict[str, list[float]] = {precision: [] for precision in ways}
        for steps in _STEPS:
            for _, (precision, way) in itertools.product(range(steps), ways.items()):
                times[precision].append(step(*way))
            best = {p: min(taken) for p, taken in times.items()}
            ways = {p: way for p, way in ways.items() if best[p] <= _NEAR * min(best.values())}
            if len(ways) == 1:
                break
    return best


def _remembered(file: Path) -> dict[str, dict[str, Any]]:
    """Return the stored measurements; a missing or damaged file only means measuring again."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {k: v for k, v in entries if isinstance(v, dict) and v.get("precision") in LIGHTNING and "reason" in v}


def _remember(file: Path, key: str, entry: dict[str, Any]) -> None:
    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # runs that start together each add what they measured
            part.write_text(json.dumps(_remembered(file) | {key: entry}, indent=1))
            part.replace(file)
    except OSError as error:
        print(f"WARNING: {file} cannot be written ({error.strerror}); the next run measures again", file=sys.stderr)
