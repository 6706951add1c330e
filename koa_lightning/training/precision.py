"""How this machine trains fastest: allocator, memory format, and the precision that wins a few measured steps."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_MADV_HUGEPAGE = 14
_HEAP = 8 << 30  # bytes that may lie on huge pages; training of B3 with batch 16 has 3 GB there
_LIGHTNING = {"fp32": "32-true", "bf16": "bf16-mixed", "bf16-hybrid": "bf16-mixed", "fp16": "16-mixed"}
_STEPS = (3, 6)  # timed of each way, in turn: of all, then of those that are near the fastest
_NEAR = 1.15  # times the fastest
_EDITION = "edition 7"  # another one when what is measured has changed: what was remembered is not taken then


def tune_allocator() -> bool:
    """Tell glibc to keep large blocks instead of giving them back to the kernel after each layer.

    Half of the training time on CPU is page faults without it. Call it before torch is imported.

    Returns:
        Whether it was done; only Linux with glibc can.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 << 20))  # -1: as large as can be
    accepted = [libc.mallopt(option, value) for option, value in settings]
    _ask_for_huge_pages(libc)
    return accepted == [1] * len(settings)


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the kernel back the heap with pages of 2 MB where it may; a step takes 7 % less, and no memory before."""
    size, page = min(_HEAP, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2), 2 << 20
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes, libc.madvise.argtypes = [ctypes.c_void_p], [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    start = libc.malloc(size)  # the heap grows to it, and keeps it as it gives nothing back
    if start is not None:  # the address space may be limited
        first = -(-start // page) * page
        libc.madvise(first, (start + size - first) // page * page, _MADV_HUGEPAGE)
        libc.free(start)


@dataclass(frozen=True)
class Plan:
    """How a run computes.

    Attributes:
        precision: `fp32`, `bf16`, `bf16-hybrid` (bf16 with depthwise convolutions in fp32) or `fp16`.
        channels_last: Memory format of weights and activations.
        reason: Why, for the log.
    """

    precision: str
    channels_last: bool
    reason: str

    @property
    def lightning(self) -> str:
        """Return what Lightning calls the precision."""
        return _LIGHTNING[self.precision]

    @property
    def imitated(self) -> bool:
        """Tell whether this CPU has to compute in fp32 what the plan wants in bf16."""
        return self.precision.startswith("bf16") and not cpu_has_bf16()

    def prepare(self, net: nn.Module) -> nn.Module:
        """Bring a network into this form, in place; its parameters' names stay."""
        import torch

        from koa_lightning.models.cpu import depthwise, faster, norm

        if self.precision in ("fp32", "bf16-hybrid"):
            depthwise.in_fp32(net)
        elif self.precision == "bf16":
            depthwise.backward_where_fast(net)
        norm.join_activations(net)
        faster.spare_squeeze(net)
        faster.spare_activations(net)
        return net.to(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def cpu_has_bf16() -> bool:
    """Tell whether this CPU multiplies in bf16 (AVX512-BF16 or AMX)."""
    import torch

    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


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

    `auto` takes bf16 on a GPU that has it; on a CPU that has it, a few training steps of each way are timed and the
    winner is remembered for this machine, model, size and batch.

    Args:
        net: The network; a copy is measured, and the random state stays as it was.
        name: Of the model, for the memory.
        image_size: In pixels.
        batch_size: Images a step.
        precision: `auto`, or the one to take.
        channels_last: Whether to use that memory format.
        cuda: Whether a GPU computes.
        memory: Folder of `speed.json`.
        quiet: Say nothing.
    """
    import torch

    if precision != "auto":
        return Plan(precision, channels_last, "as configured")
    if cuda:
        has = torch.cuda.is_bf16_supported()
        return Plan("bf16" if has else "fp32", channels_last, f"GPU {'with' if has else 'without'} bf16")
    if not cpu_has_bf16():
        return Plan("fp32", channels_last, "CPU without bf16")
    file = memory / "speed.json"
    layout = "channels_last" if channels_last else "contiguous"
    key = "|".join(
        [cpu_name(), f"{torch.get_num_threads()} threads", f"torch {torch.__version__}", name, f"{image_size} px",
         f"batch {batch_size}", layout, _EDITION]
    )  # fmt: skip
    known = _remembered(file)
    if key in known:
        return Plan(known[key]["precision"], channels_last, f"remembered: {known[key]['reason']}")
    if not quiet:
        print("measuring fp32, bf16 and bf16-hybrid for a few steps, once per machine and model", file=sys.stderr)
    seconds = _seconds_a_step(net, [Plan(p, channels_last, "") for p in list(_LIGHTNING)[:3]], image_size, batch_size)
    best = min(seconds, key=seconds.__getitem__)
    reason = ", ".join(f"{p} {batch_size / s:.1f} img/s" for p, s in seconds.items())
    plan = Plan(best, channels_last, reason)
    _remember(file, key, plan)
    return plan


def _seconds_a_step(net: nn.Module, plans: Sequence[Plan], image_size: int, batch_size: int) -> dict[str, float]:
    """Return the median of each precision's steps; they take turns, so that what disturbs them disturbs all."""
    import copy

    import torch

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
            step(*way)  # the first pays for the memory
        times: dict[str, list[float]] = {precision: [] for precision in ways}
        for steps in _STEPS:
            for _, (precision, way) in itertools.product(range(steps), ways.items()):
                times[precision].append(step(*way))
            medians = {p: statistics.median(taken) for p, taken in times.items()}
            ways = {p: way for p, way in ways.items() if medians[p] <= _NEAR * min(medians.values())}
            if len(ways) == 1:
                break
    return medians


def _remembered(file: Path) -> dict[str, dict[str, str]]:
    """Return what was measured; a file that is missing or damaged only means measuring again."""
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    entries = known.items() if isinstance(known, dict) else ()
    return {k: v for k, v in entries if isinstance(v, dict) and v.get("precision") in _LIGHTNING and "reason" in v}


def _remember(file: Path, key: str, plan: Plan) -> None:
    from filelock import FileLock

    part = file.with_suffix(f".{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # runs that start together each add what they measured
            part.write_text(json.dumps(_remembered(file) | {key: asdict(plan)}, indent=1))
            part.replace(file)
    except OSError as error:
        print(f"WARNING: {file} cannot be written ({error.strerror}); the next run measures again", file=sys.stderr)
