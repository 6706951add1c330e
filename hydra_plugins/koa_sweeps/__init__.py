"""Sweepers and a launcher for any Hydra program; Hydra finds them here by itself. No heavy imports.

- `hydra/sweeper=koa_optuna`: searches with Optuna, survives its own death, prunes.
- `hydra/sweeper=koa_grid`: Hydra's own grid, with one MLflow run over all its jobs (for koa_lightning).
- `hydra/launcher=processes`: a process a job, several at a time.
- `hydra/launcher=koa_ray`: a task of Ray a job, on all nodes of a cluster.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Searches with Optuna; see `koa_lightning.sweeps.sweep`.

    Args:
        settings: As in `OptunaConf`; what is under `settings` wins.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Search; leaves with the exit code of the sweep where that is not 0."""
        from koa_lightning.sweeps.launch import Program
        from koa_lightning.sweeps.sweep import sweep

        assert self.hydra_context is not None
        return sweep(Program(self.hydra_context, self.config, self.task_function), self.settings, arguments)


class GridSweeper(BasicSweeper):
    """Hydra's own grid; its jobs are the children of one MLflow run, and know what differs between them.

    Args:
        max_batch_size: As Hydra's.
        params: As Hydra's.
    """

    more: list[str]
    parent: Any

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Tell every job what it belongs to."""
        return [[*job, *self.more] for job in super().get_job_batch()]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Make all jobs, which compose, children of the sweep's run."""
        super().validate_batch_is_legal(batch)
        assert self.hydra_context is not None and self.config is not None
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(batch[0]))
        more = self.parent.began(config, Path(str(self.config.hydra.sweep.dir)))
        for job in batch:
            job += more

    def sweep(self, arguments: list[str]) -> Any:
        """Run every combination."""
        from koa_lightning.sweeps import grid

        return grid.sweep(self, super().sweep, arguments)


class ProcessLauncher(Launcher):
    """A process a job.

    Args:
        n_jobs: At a time.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; return what came of each."""
        from koa_lightning.sweeps.launch import Program, launch

        program = Program(self.hydra_context, self.config, self.task_function)
        return launch(program, job_overrides, initial_job_idx, self.n_jobs)


class RayLauncher(Launcher):
    """A task of Ray a job.

    Args:
        settings: As in `RayConf`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; return what came of each."""
        from functools import partial

        from koa_lightning.sweeps import on_ray
        from koa_lightning.sweeps.launch import Program, launch

        program, settings = Program(self.hydra_context, self.config, self.task_function), on_ray.settings(self.settings)
        runner = partial(on_ray.run, settings=settings)
        return launch(program, job_overrides, initial_job_idx, int(self.settings["n_jobs"]), runner)


@dataclass
class OptunaConf:
    """What a sweep with Optuna may be told; `koa_lightning` has the same in conf/sweep/."""

    _target_: str = "hydra_plugins.koa_sweeps.OptunaSweeper"
    _recursive_: bool = False  # the pruner goes to the jobs as it is written
    method: str = "tpe"  # tpe | random | grid | qmc
    space: dict[str, Any] = field(default_factory=dict)  # key -> distribution, beside what is typed
    trials: int | None = 30  # null: all points of a grid
    metrics: list[str] = field(default_factory=lambda: ["value"])  # names of what a job returns
    directions: list[str] = field(default_factory=lambda: ["max"])  # max | min of each
    seed: int = 42
    startup_trials: int = 10  # drawn at random before TPE learns
    name: str | None = None  # null: follows from the settings
    storage: str | None = None  # null: KOA_SWEEP_STORAGE, else sqlite:///mlruns/sweeps.db
    pruner: Any = None  # _target_ of one of Optuna's
    repeats: int = 1  # runs a trial; their mean decides
    repeat: str = "seed"  # the key that differs between them, or fold (data.fold)
    n_jobs: int = 1
    max_failures: int | None = 5  # more end the sweep; null: never
    folder: str = "outputs/sweep-{name}"  # of the runs
    free: list[str] = field(default_factory=list)  # keys that do not make it another sweep
    listener: Any = None  # _target_ of an object that receives the sweep's events
    ensemble: bool = False  # in the end the listener measures all complete trials together
    settings: Any = None  # all of these in one node


@dataclass
class KoaConf(OptunaConf):
    """The settings are those under `sweep`."""

    settings: Any = "${oc.select:sweep,null}"


@dataclass
class GridConf:
    """Hydra's own grid, tracked."""

    _target_: str = "hydra_plugins.koa_sweeps.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class ProcessConf:
    """A process a job."""

    _target_: str = "hydra_plugins.koa_sweeps.ProcessLauncher"
    n_jobs: int = 1


@dataclass
class RayConf:
    """A task of Ray a job; `koa_lightning` has the same in conf/hydra/launcher/ray.yaml."""

    _target_: str = "hydra_plugins.koa_sweeps.RayLauncher"
    n_jobs: int = 1
    address: str | None = (
        "auto"  # of the cluster: auto (one that runs here) | HOST:PORT | null: begin one for this command
    )
    num_cpus: float = 1  # a job
    num_gpus: float | None = None  # a job; null: as many as trainer.devices, if the cluster has any
    max_retries: int = 10  # repeats of a job whose node or process died


for _group, _name, _node in (
    ("hydra/sweeper", "koa_optuna", OptunaConf),
    ("hydra/sweeper", "koa_sweep", KoaConf),
    ("hydra/sweeper", "koa_grid", GridConf),
    ("hydra/launcher", "processes", ProcessConf),
    ("hydra/launcher", "koa_ray", RayConf),
):
    ConfigStore.instance().store(group=_group, name=_name, node=_node, provider="koa_lightning")
