"""The GPUs this process may use, and a pool that gives each of several jobs its own. No heavy imports here.

The pool is one file lock per GPU in a folder of this machine; the system frees the locks of a process that dies. A job
chooses only from the GPUs in `CUDA_VISIBLE_DEVICES` at its start, so a launcher's assignment stays in force.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from koa_lightning.errors import InputError

VARIABLE = "CUDA_VISIBLE_DEVICES"
POOL_VARIABLE = "KOA_DEVICE_POOL"
"""The folder of the locks, for several users or containers that share the GPUs of a machine."""
_LISTED = re.compile(r"^(?:GPU (?P<number>\d+)|\s+MIG ).*\(UUID: (?P<uuid>[\w./-]+)\)")
_WAIT = 0.2  # seconds between two looks at the pool
_kept: dict[tuple[str, ...], ExitStack] = {}  # GPUs to which CUDA has bound this process, with their locks


def visible(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the GPUs this process may use: those in `CUDA_VISIBLE_DEVICES`, otherwise all of the machine.

    A slice of a GPU (MIG) counts as one, under its own name.
    """
    named = environment.get(VARIABLE)
    if named is None:
        return _listed()
    names = [name.strip() for name in named.split(",")]
    wrong = next((i for i, name in enumerate(names) if not name or name.startswith("-")), len(names))
    return list(dict.fromkeys(names[:wrong]))  # CUDA stops at the first invalid name


def _listed() -> list[str]:
    try:
        said = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    found: list[str] = []
    whole: str | None = None
    for line in said.splitlines():
        if (match := _LISTED.match(line)) is None:
            continue
        if match["number"] is not None:
            found, whole = [*found, match["number"]], match["number"]
        else:  # the slices replace the whole GPU
            found = [*(name for name in found if name != whole), match["uuid"]]
    return found


def of_job(accelerator: str, devices: Any) -> int:
    """Return how many GPUs a job needs; -1: all.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`.

    Raises:
        InputError: `devices` lists GPUs by number.
    """
    if accelerator in ("cpu", "mps", "tpu"):
        return 0
    if not isinstance(devices, int | str):
        raise InputError(
            f"trainer.devices={list(devices)}: parallel jobs share a pool of GPUs; type a number, or list those "
            f"they may use in {VARIABLE}"
        )
    return -1 if devices == "auto" else int(devices)


def check_room(key: str, n_jobs: int, accelerator: str, devices: Any) -> None:
    """Stop if this machine lacks a GPU (or on a CPU a core) for each parallel job.

    Args:
        key: The setting of the number of jobs, for the message.
        n_jobs: Number of parallel jobs.
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`.

    Raises:
        InputError: It does.
    """
    if n_jobs == 1:
        return
    needed, there = of_job(accelerator, devices), visible()
    if needed and there:
        each = len(there) if needed == -1 else needed
        what = "GPU" if each == 1 else "GPUs"
    else:
        each = devices if isinstance(devices, int) and devices > 0 else 1
        what = "core" if each == 1 else "cores"
        there = [str(core) for core in range(_cores())]
    if n_jobs * each > len(there):
        room = max(1, len(there) // each)
        raise InputError(
            f"{key}={n_jobs}: each takes {each} {what}, and there are {len(there)} here; type {key}={room}"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pool() -> Path:
    """Return the folder of the locks."""
    if named := os.environ.get(POOL_VARIABLE):
        return Path(named)
    job = os.environ.get("SLURM_JOB_ID")  # Slurm may number the GPUs of each job from 0
    return Path(tempfile.gettempdir()) / f"koa-gpus-{getpass.getuser()}{f'-{job}' if job else ''}"


@contextmanager
def taken(accelerator: str, devices: Any) -> Iterator[list[str]]:
    """Hold as many free GPUs as a job needs, waiting for them; the job sees no others.

    A process bound to its GPUs by CUDA keeps them until it ends.

    Args:
        accelerator: `trainer.accelerator`.
        devices: `trainer.devices`.

    Raises:
        InputError: This machine has fewer than the job needs.
    """
    needed, names = of_job(accelerator, devices), visible()
    if not needed or not names:
        yield []
        return
    needed = len(names) if needed == -1 else needed
    if needed > len(names):
        raise InputError(
            f"trainer.devices={needed}: there are {len(names)} GPUs here; type trainer.devices={len(names)}"
        )
    if needed > 1 and any(name.startswith("MIG-") for name in names):
        raise InputError(
            f"trainer.devices={needed}: CUDA gives a process only one slice of a GPU (MIG); type trainer.devices=1"
        )
    mine = tuple(names[:needed])
    if tuple(names) in _kept:
        yield list(mine)
        return
    found, locks = _locked(names, needed)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join(found)
    try:
        yield found
    finally:
        if _is_bound():
            _kept[tuple(found)] = locks
        else:
            locks.close()
            if before is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = before


def _locked(names: list[str], needed: int) -> tuple[list[str], ExitStack]:
    """Return the first free GPUs with their locks: all or none, as two jobs would otherwise wait for each other."""
    folder, said = pool(), False
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        locks, found = ExitStack(), list[str]()
        for name in names:
            lock = FileLock(folder / (re.sub(r"[^\w.-]", "_", name) + ".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            locks.callback(lock.release)
            found.append(name)
            if len(found) == needed:
                return found, locks
        locks.close()
        if not said:
            print(f"waiting for a free GPU: others use {len(names) - len(found)} of {len(names)}", flush=True)
            said = True
        time.sleep(_WAIT)


def _is_bound() -> bool:
    """Tell whether CUDA runs in this process; if so, it cannot switch to other GPUs."""
    torch = sys.modules.get("torch")
    return bool(torch is not None and torch.cuda.is_initialized())
