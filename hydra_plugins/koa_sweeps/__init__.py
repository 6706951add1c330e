"""Sweepers and launchers for any Hydra program; Hydra finds them here by itself. No heavy imports.

- `hydra/sweeper=koa_optuna`: searches with Optuna, survives its own death, prunes.
- `hydra/sweeper=koa_grid`: Hydra's own grid, with one MLflow run over all its jobs (for koa_lightning).
- `hydra/launcher=processes`: one process per job, several at a time.
- `hydra/launcher=koa_ray`: one Ray task per job, on all nodes of a cluster.
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
        settings: As in `OptunaConf`; those under `settings` win.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context, the task function and the config."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Search, and exit with the sweep's exit code if it is not 0."""
        from koa_lightning.sweeps.launch import Program
        from koa_lightning.sweeps.sweep import sweep

        assert self.hydra_context is not None
        return sweep(Program(self.hydra_context, self.config, self.task_function), self.settings, arguments)


class GridSweeper(BasicSweeper):
    """Hydra's own grid; its jobs are children of one MLflow run and know which settings differ between them.

    Args:
        max_batch_size: As in Hydra's sweeper.
        params: As in Hydra's sweeper.
    """

    more: list[str]
    parent: Any

    def get_job_batch(self) -> Sequence[Sequence[str]]:
        """Add the sweep's overrides to every job."""
        return [[*job, *self.more] for job in super().get_job_batch()]

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Make all jobs children of the sweep's run, once they compose."""
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
    """Runs each job in its own process.

    Args:
        n_jobs: Jobs at a time.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.n_jobs = n_jobs

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context, the task function and the config."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; return the outcome of each."""
        from koa_lightning.sweeps.launch import Program, launch

        program = Program(self.hydra_context, self.config, self.task_function)
        return launch(program, job_overrides, initial_job_idx, self.n_jobs)


class RayLauncher(Launcher):
    """Runs each job as a Ray task.

    Args:
        settings: As in `RayConf`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context, the task function and the config."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; return the outcome of each."""
        from functools import partial

        from koa_lightning.sweeps import on_ray
        from koa_lightning.sweeps.launch import Program, launch

        program, settings = Program(self.hydra_context, self.config, self.task_function), on_ray.settings(self.settings)
        runner = partial(on_ray.run, settings=settings)
        return launch(program, job_overrides, initial_job_idx, int(self.settings["n_jobs"]), runner)


@dataclass
class OptunaConf:
    """The settings of a sweep with Optuna; `koa_lightning` has the same in conf/sweep/."""

    _target_: str = "hydra_plugins.koa_sweeps.OptunaSweeper"
    _recursive_: bool = False  # the jobs receive the pruner's config as written
    method: str = "tpe"  # tpe | random | grid | qmc
    space: dict[str, Any] = field(default_factory=dict)  # key -> distribution, in addition to the typed ones
    trials: int | None = 30  # null: all points of a grid
    metrics: list[str] = field(default_factory=lambda: ["value"])  # names of the values that a job returns
    directions: list[str] = field(default_factory=lambda: ["max"])  # max | min for each
    seed: int = 42
    startup_trials: int = 10  # drawn at random before TPE learns
    name: str | None = None  # null: derived from the settings
    storage: str | None = None  # null: KOA_SWEEP_STORAGE, else sqlite:///mlruns/sweeps.db
    pruner: Any = None  # _target_ of an Optuna pruner
    repeats: int = 1  # runs per trial; their mean decides
    repeat: str = "seed"  # the key that differs between them, or fold (data.fold)
    n_jobs: int = 1
    max_failures: int | None = 5  # a larger number ends the sweep; null: never
    folder: str = "outputs/sweep-{name}"  # of the runs
    free: list[str] = field(default_factory=list)  # keys that may differ when the sweep resumes
    listener: Any = None  # _target_ of an object that receives the sweep's events
    ensemble: bool = False  # at the end the listener evaluates all complete trials together
    settings: Any = None  # all of these in one node


@dataclass
class KoaConf(OptunaConf):
    """Takes its settings from `sweep`."""

    settings: Any = "${oc.select:sweep,null}"


@dataclass
class GridConf:
    """Hydra's own grid, with tracking."""

    _target_: str = "hydra_plugins.koa_sweeps.GridSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = None


@dataclass
class ProcessConf:
    """One process per job."""

    _target_: str = "hydra_plugins.koa_sweeps.ProcessLauncher"
    n_jobs: int = 1


@dataclass
class RayConf:
    """One Ray task per job; `koa_lightning` has the same in conf/hydra/launcher/ray.yaml."""

    _target_: str = "hydra_plugins.koa_sweeps.RayLauncher"
    n_jobs: int = 1
    address: str | None = (
        "auto"  # of the cluster: auto (one that runs here) | HOST:PORT | null: start one for this command
    )
    num_cpus: float = 1  # per job
    num_gpus: float | None = None  # per job; null: as many as trainer.devices, if the cluster has any
    max_retries: int = 10  # retries of a job whose node or process died


for _group, _name, _node in (
    ("hydra/sweeper", "koa_optuna", OptunaConf),
    ("hydra/sweeper", "koa_sweep", KoaConf),
    ("hydra/sweeper", "koa_grid", GridConf),
    ("hydra/launcher", "processes", ProcessConf),
    ("hydra/launcher", "koa_ray", RayConf),
):
    ConfigStore.instance().store(group=_group, name=_name, node=_node, provider="koa_lightning")
