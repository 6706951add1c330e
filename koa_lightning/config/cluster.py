"""Jobs of a Slurm cluster that are requeued and start again. No heavy imports here.

A requeued job runs the identical command under the same job id. Each run folder records the job and the command that
started it, so that the command finds its earlier run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from koa_lightning.config import signals
from koa_lightning.config.outcome import DONE, say_error
from koa_lightning.config.overrides import as_typed, key, quote, quote_paths
from koa_lightning.config.places import replace_text

REQUEUE_VARIABLE = "KOA_REQUEUE"
"""If set to anything but 0, a job is put back into the queue after SIGUSR1."""
JOB_VARIABLE = "KOA_JOB"
"""The id of a job that a cluster other than Slurm may start several times, as Ray does after a node dies."""
RECORD_FILE = "slurm.json"
_REQUEUE_SECONDS = 5.0
_LARGEST_RECORD = 1_000_000  # bytes
_NOT_TYPED = {"ckpt", "hydra.output_subdir"}


def job_id() -> str | None:
    """Return the id of this process's cluster job (`ID_TASK` in a Slurm array); None outside of a job."""
    if own := os.environ.get(JOB_VARIABLE):
        return own
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID") or None


def is_restarted() -> bool:
    """Tell whether the cluster has, or may have, started this job before."""
    if os.environ.get(JOB_VARIABLE):
        return True
    return job_id() is not None and os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def remember(folder: Path, overrides: Iterable[str]) -> None:
    """Record which job and command started the run in a folder; outside of a job nothing is written.

    Args:
        folder: The run folder.
        overrides: As Hydra received them.
    """
    file, job = folder / RECORD_FILE, job_id()
    if job is None or (_read(file) or {}).get("job") == job:  # a restart resumes with the overrides of both
        return
    replace_text(file, json.dumps({"job": job, "typed": _plain(overrides)}))


def begun_before(overrides: Sequence[str]) -> Path | None:
    """Return the folder of the run that an earlier start of this job began with the same command, or None.

    Args:
        overrides: As typed.
    """
    if not is_restarted():
        return None
    wanted = {"job": job_id(), "typed": _plain(overrides)}
    typed = [item.partition("=")[2] for item in _plain(overrides) if key(item) == "out"]
    files = [Path(typed[-1]) / RECORD_FILE] if typed else Path("outputs").glob(f"*/{RECORD_FILE}")
    found = [file for file in files if _read(file) == wanted]
    return max(found, key=lambda file: file.stat().st_mtime).parent if found else None


def began_in(folder: Path) -> bool:
    """Tell whether an earlier start of this job began the run in a folder; each job of a sweep has its own folder."""
    return is_restarted() and (_read(folder / RECORD_FILE) or {}).get("job") == job_id()


def of_restart(overrides: Sequence[str], folder: Path, done: Path) -> list[str]:
    """Return the overrides of a job that Slurm has started again; they resume the run it began.

    Args:
        overrides: As typed.
        folder: From `begun_before`.
        done: A file that exists once the run has finished.

    Raises:
        SystemExit: With 0 if the run has finished; a job may run several commands.
    """
    if done.exists():
        print(f"{folder}: finished before the job was started again; nothing to do", flush=True)
        raise SystemExit(DONE)
    last = folder / "checkpoints" / "last.ckpt"
    others = [item for item in overrides if key(item) not in ("ckpt", "out")]
    return [*others, *([f"ckpt={quote(str(last.absolute()))}"] if last.is_file() else []), f"out={quote(str(folder))}"]


def requeue_if_asked() -> None:
    """Put the job back into the queue if SIGUSR1 ended this process and `KOA_REQUEUE` is set."""
    job = job_id()
    asked = os.environ.get(REQUEUE_VARIABLE, "0") not in ("", "0")
    first = os.environ.get("SLURM_PROCID", "0") == "0"
    if not (asked and first and job and signals.received() == signal.SIGUSR1):
        return
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_REQUEUE_SECONDS, check=False
        )
        why = "" if done.returncode == 0 else (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        say_error(f"job {job} was not requeued: scontrol requeue {job}: {why}; submit it again")
    else:
        print(f"job {job} is in the queue again", flush=True)


def _plain(overrides: Iterable[str]) -> list[str]:
    """Return overrides as typed, whether or not they have been quoted since."""
    return [as_typed(item) for item in quote_paths([str(item) for item in overrides]) if key(item) not in _NOT_TYPED]


def _read(file: Path) -> dict[str, object] | None:
    """Return the record of a run folder; None if it is missing or unreadable."""
    try:
        if file.stat().st_size > _LARGEST_RECORD:
            return None
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
