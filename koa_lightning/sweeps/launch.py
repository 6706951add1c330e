"""Run jobs of a sweep in processes of their own: one that dies stops no other, and its memory is freed."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import open_dict

from koa_lightning.sweeps import processes

_RESULT = ".result"


class Program(NamedTuple):
    """The objects that Hydra gives to every job of a sweep."""

    context: Any
    config: Any
    function: Callable[[Any], Any]


Take = Callable[[], tuple[int, Sequence[str]] | None]
"""Returns the number and the overrides of the next job; None if there is none now."""
Ended = Callable[[int, Any], bool]
"""Called with the number of a job and Hydra's `JobReturn`; returns whether further jobs may begin."""


class DiedError(RuntimeError):
    """A job's process ended without leaving a result."""


def run(program: Program, take: Take, ended: Ended, n_jobs: int) -> None:
    """Run jobs until there are no more.

    Args:
        program: The program of the jobs.
        take: Returns the next job.
        ended: Called for each job that ends.
        n_jobs: The most jobs at a time.
    """
    results: dict[int, Path] = {}

    def next_piece() -> tuple[int, processes.Piece] | None:
        job = take()
        if job is None:
            return None
        number, overrides = job
        config, folder = composed(program, number, overrides)
        results[number] = folder.with_name(f".{folder.name}{_RESULT}")  # a job may remove its own folder
        results[number].unlink(missing_ok=True)
        return number, processes.Piece(
            packed(program, config, results[number]), folder / "log.txt" if n_jobs > 1 else None
        )

    def piece_ended(number: int, code: int) -> bool:
        return ended(number, _returned(results.pop(number), code))

    processes.run_all("koa_lightning.sweeps.launch:work", next_piece, n_jobs, piece_ended)


def work(packed: bytes) -> int:
    """Do one job, in its own process; return 0."""
    result = cloudpickle.loads(packed)[-1]
    part = result.with_suffix(".part")
    part.write_bytes(done(packed))
    part.replace(result)
    return 0


def done(packed: bytes) -> bytes:
    """Do one job in this process; return Hydra's `JobReturn`, packed."""
    context, config, function, state, _ = cloudpickle.loads(packed)
    setup_globals()
    Singleton.set_state(state)
    job = run_job(
        hydra_context=context,
        task_function=function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    return _pickled(job)


def composed(program: Program, number: int, overrides: Sequence[str]) -> tuple[Any, Path]:
    """Return the config of a job and its folder, which is created.

    Args:
        program: The program of the job.
        number: Number of the job.
        overrides: Overrides of the job.
    """
    config = program.context.config_loader.load_sweep_config(program.config, list(overrides))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    folder = _folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    return config, folder


def _folder(config: Any) -> Path:
    """Return the folder of a job, as Hydra will name it."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # `${hydra:...}` in the names refers to the job
    try:
        return Path(str(config.hydra.sweep.dir), str(config.hydra.sweep.subdir))
    finally:
        HydraConfig.instance().cfg = before


def packed(program: Program, config: Any, result: Path) -> bytes:
    """Return everything that a job needs in a process of its own.

    Args:
        program: The program of the job.
        config: Config of the job.
        result: The file for the result, unless the launcher returns it in another way.
    """
    return bytes(
        cloudpickle.dumps((program.context, config, program.function, Singleton.get_state(), result.absolute()))
    )


def _pickled(job: Any) -> bytes:
    try:
        packed = bytes(cloudpickle.dumps(job))
        pickle.loads(packed)  # some exception classes pickle but do not unpickle
    except Exception:
        job.return_value = DiedError(f"{type(job._return_value).__name__}: {job._return_value}")
        packed = bytes(cloudpickle.dumps(job))
    return packed


def _returned(result: Path, code: int) -> Any:
    """Return the result of a job, or a failed `JobReturn` if it died."""
    if result.is_file():
        job = pickle.loads(result.read_bytes())
        result.unlink()
        return job
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return JobReturn(status=JobStatus.FAILED, _return_value=DiedError(f"the process {how}"))


def launch(
    program: Program,
    jobs: Sequence[Sequence[str]],
    first: int,
    n_jobs: int,
    runner: Callable[..., None] | None = None,
) -> list[Any]:
    """Run a list of jobs; return the result of each, in their order.

    Args:
        program: The program of the jobs.
        jobs: The overrides of each job.
        first: The number of the first job.
        n_jobs: The most jobs at a time.
        runner: Takes the arguments of `run`; None means `run`.
    """
    waiting, returned = iter(enumerate(jobs, first)), dict[int, Any]()

    def ended(number: int, job: Any) -> bool:
        returned[number] = job
        return True

    (runner or run)(program, lambda: next(waiting, None), ended, n_jobs)
    return [returned[number] for number in range(first, first + len(jobs))]
