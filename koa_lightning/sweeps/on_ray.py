"""Run jobs of a sweep as tasks of a Ray cluster: Ray places them, assigns GPUs, and repeats those whose node died.

Ray's core tasks, not hydra-ray-launcher: that one pins cloudpickle below 3 and brings boto3 and the dashboard, and it
waits for whole batches. Not Ray Tune either: here Optuna proposes, records and prunes, whatever launcher runs the jobs.
"""

from __future__ import annotations

import importlib
import os
import pickle
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from koa_lightning.config import cluster, gpus
from koa_lightning.errors import InputError
from koa_lightning.sweeps import launch, processes

_CARRIED = ("KOA_", "MLFLOW_", "HF_HUB_", "OMP_NUM_THREADS")  # variables that jobs get from the command
_CONNECT = 5.0  # seconds


@dataclass(frozen=True)
class Settings:
    """The settings of `hydra_plugins.koa_sweeps.RayConf`."""

    address: str | None
    num_cpus: float
    num_gpus: float | None
    max_retries: int


def settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings of the launcher.

    Raises:
        InputError: One of them is invalid.
    """
    numbers = {name: given[name] for name in ("num_cpus", "num_gpus", "max_retries")}
    for name, value in numbers.items():
        right = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        if not right and not (name == "num_gpus" and value is None):
            raise InputError(f"hydra.launcher.{name}={value}: must be a number of at least 0")
    return Settings(given["address"], float(numbers["num_cpus"]), numbers["num_gpus"], int(numbers["max_retries"]))


def run(program: launch.Program, take: launch.Take, ended: launch.Ended, n_jobs: int, settings: Settings) -> None:
    """Run jobs as `koa_lightning.sweeps.launch.run` does, on a cluster.

    Args:
        program: The program of the jobs.
        take: Returns the next job.
        ended: Called for each job that ends.
        n_jobs: The most jobs at a time.
        settings: Settings of the launcher.

    Raises:
        InputError: There is no such cluster, or none of its nodes has the CPUs and GPUs that a job needs.
    """
    ray = _connected(settings.address)
    running, more = dict[Any, int](), True
    try:
        while True:
            while more and len(running) < n_jobs and (job := take()) is not None:
                number, overrides = job
                running[_submitted(ray, program, number, overrides, settings)] = number
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=1.0)  # a second: for Ctrl-C
            for task in done:
                more = ended(running.pop(task), _returned(ray, task)) and more
    finally:
        for task in running:
            ray.cancel(task, force=True)
        ray.shutdown()


def _connected(address: str | None) -> Any:
    """Return Ray, connected to a cluster."""
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError('hydra/launcher=ray: is not installed; type pip install "koa-lightning[ray]"') from None
    where = f"hydra.launcher.address={address}"
    if address not in (None, "auto"):
        host, _, port = str(address).removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise InputError(f"{where}: must be auto, null, or HOST:PORT of the head node")
        try:
            socket.create_connection((host, int(port)), _CONNECT).close()  # Ray itself would try for a minute
        except OSError as error:
            raise InputError(f"{where}: does not answer ({error}); start it: ray start --head") from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["no answer"])[0]
        raise InputError(f"{where}: {why}; start a cluster: ray start --head") from None
    return ray


def _submitted(ray: Any, program: launch.Program, number: int, overrides: Sequence[str], settings: Settings) -> Any:
    config, folder = launch.composed(program, number, overrides)
    wanted = {"CPU": settings.num_cpus, "GPU": _gpus(ray, config, settings.num_gpus)}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= n for name, n in wanted.items()) for node in nodes):
        asked = ", ".join(f"{n:g} {name}" for name, n in wanted.items() if n)
        most = ", ".join(f"{max((node.get(name, 0) for node in nodes), default=0):g} {name}" for name in wanted)
        raise InputError(
            f"hydra/launcher=ray: a job needs {asked}, and no node has them (at most {most}); request less"
        )
    carried = {name: value for name, value in os.environ.items() if name.startswith(_CARRIED)}
    once = ray.remote(
        num_cpus=wanted["CPU"], num_gpus=wanted["GPU"], max_retries=settings.max_retries, max_calls=1
    )  # a process that ends with its job frees all of its memory
    job = once(work).options(name=folder.name)
    packed = launch.packed(program, config, folder / "unused")
    return job.remote(
        packed, str(Path.cwd()), {**carried, cluster.JOB_VARIABLE: f"ray-{uuid.uuid4().hex}"}, str(folder)
    )


def _gpus(ray: Any, config: Any, given: float | None) -> float:
    """Return how many GPUs a job takes."""
    if given is not None:
        return given
    if "trainer" not in config or not ray.cluster_resources().get("GPU"):
        return 0
    needed = gpus.of_job(str(config.trainer.accelerator), config.trainer.devices)
    if needed == -1:
        raise InputError(
            f"trainer.devices={config.trainer.devices}: a job of Ray needs a number; type trainer.devices=1"
        )
    return needed


def work(packed: bytes, where: str, variables: Mapping[str, str], folder: str) -> bytes:
    """Do one job, in a process of Ray that ends with it; return Hydra's `JobReturn`, packed.

    Args:
        packed: From `launch.packed`.
        where: The folder that the command was typed in; all nodes see it.
        variables: Environment variables to set.
        folder: Folder of the run, for the log of what the job prints.
    """
    os.chdir(where)
    os.environ.update(variables)
    processes.print_to(Path(folder) / "log.txt")
    return launch.done(packed)


def _returned(ray: Any, task: Any) -> Any:
    """Return the result of a task."""
    try:
        return pickle.loads(ray.get(task))
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return JobReturn(status=JobStatus.FAILED, _return_value=launch.DiedError(f"the task of Ray failed: {lines[0]}"))
