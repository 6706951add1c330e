"""The MLflow run above all jobs of a sweep, and the rules for sweeps of trainings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import overrides, signals, trial
from koa_lightning.config.compose import validate
from koa_lightning.config.figures import FigureSettings, using
from koa_lightning.errors import InputError
from koa_lightning.sweeps import closing, note, report, results, together
from koa_lightning.sweeps import settings as sweep_settings
from koa_lightning.sweeps.settings import Settings
from koa_lightning.sweeps.space import Space
from koa_lightning.tracking.begin import open_run

if TYPE_CHECKING:
    from optuna import Study

_NEVER_VARIED = (
    "out", "quiet", "ckpt", "name", "monitor", "mode", "tracking", "sweep", "figures", "data.root", "data.table",
    "data.fold", "data.folds", "data.split", "data.split_seed", "data.split_table", "data.val_fraction",
    "data.test_fraction",
)  # fmt: skip


class Parent:
    """Listens to the sweeper and keeps the MLflow run of the sweep.

    Attributes:
        figures: Settings of the report's figures, the same as for the jobs.
    """

    figures = FigureSettings()

    def check(self, settings: Settings, searched: Space, configs: Sequence[DictConfig]) -> None:
        """Check a sweep of trainings, before anything is written.

        Args:
            settings: Settings of the sweep.
            searched: The search space.
            configs: The configs at the corners of the space.

        Raises:
            InputError: A key may not vary, or a metric, direction or repeat is invalid.
        """
        for parameter in searched.parameters:
            key = overrides.key(parameter.key)
            if any(f"{key}.".startswith(f"{name}.") for name in _NEVER_VARIED):
                why = "trials are compared on one validation split and by one metric"
                raise InputError(f"{key}={parameter.typed}: cannot vary in a sweep ({why})")
        for metric in settings.metrics:
            if metric != "seconds" and not metric.startswith("val/"):
                raise InputError(f"sweep.metrics={metric}: a sweep is decided on validation; type val/NAME, or seconds")
        for metric, direction in zip(settings.metrics, sweep_settings.directions(settings), strict=True):
            right = sweep_settings.best_of(metric)
            if not direction.startswith(right):  # it would search for the worst trial
                why = f"the best {metric} is the {right}"
                raise InputError(f"sweep.directions={direction[:3]}: {why}; type {right}, or omit sweep.directions")
        for cfg in configs:
            validate(cfg)
            self.figures = FigureSettings.of(cfg.get("figures"))  # the same in all configs
        if settings.repeats > 1 and settings.repeat_key == "data.fold":
            first, folds = configs[0].data.fold, configs[0].data.folds
            if folds is None or folds < first + settings.repeats:
                need = f"{settings.repeats} repeats need the folds {first} to {first + settings.repeats - 1}"
                raise InputError(
                    f"sweep.repeat={settings.repeat}: {need}; type data.folds={first + settings.repeats}, or more"
                )

    def began(self, study: Study, config: DictConfig, folder: Path) -> list[str]:
        """Start the MLflow run, or resume it; return overrides that make jobs its children.

        Args:
            study: Study of the sweep.
            config: Config of one job.
            folder: Folder of the runs.
        """
        then = study.user_attrs
        given = (then.get("koa_parent_run") or None, then.get("koa_tracking_uri") or None)
        title = f"{config.name or 'sweep'} {study.study_name}"
        self.run, self.folder = _open(config, folder, title, *given), folder
        study.set_user_attr("koa_parent_run", self.run.run_id)
        study.set_user_attr("koa_tracking_uri", self.run.uri)
        self.run.log_params({f"space.{key}": typed for key, typed in then["koa_space"].items()})
        tags = {
            "sweep": study.study_name,
            "sweep.metrics": ", ".join(then["koa_metrics"]),
            "sweep.fixed": " ".join(then["koa_fixed"]),
            "sweep.command": then["koa_command"],
            trial.ENSEMBLE_TAG: str(bool(then.get("koa_ensemble"))).lower(),
        }
        self.run.log_tags(tags)
        self.run.end_children()
        return _overrides(self.run)

    def ended(self, study: Study, status: str) -> None:
        """End the MLflow run with the results of the sweep."""
        if not hasattr(self, "run"):
            return
        found, then = closing.counts(study), study.user_attrs
        self.run.log_metrics({f"sweep/{word}": n for word, n in found.items()}, sum(found.values()))
        best = closing.best(study)
        if best:
            names = study.user_attrs["koa_metrics"]
            self.run.log_tags({"sweep.best": ", ".join(f"trial {trial.number}" for trial in best)})
            self.run.log_metrics(
                {f"sweep/best/{name}": value for name, value in zip(names, best[0].values, strict=True)}, 0
            )
        try:
            if study.trials:
                self.run.log_tags({note.TAG: note.note(results.read(study), self.run.experiment_id)})
                typed = [*then["koa_fixed"], *(f"{key}={value}" for key, value in then["koa_space"].items())]
                if signals.received() is not None:  # its sender does not wait for figures
                    return
                with using(self.figures):
                    made = report.report(study, self.folder / "report", run=self.run, typed=typed)
                report.say(made)
        finally:
            if _close(self.run, status):
                study.set_user_attr("koa_parent_run", "")  # the same command starts another

    def together(self, study: Study, config: DictConfig, folder: Path) -> None:
        """Evaluate all complete trials as one grader; print an earlier result again.

        Args:
            study: Study of the sweep.
            config: Config of one job.
            folder: Folder of the runs; the result goes to its subfolder `ensemble/`.
        """
        together.measure(study, config, folder)


class GridParent:
    """The same for Hydra's own grid; the run starts with the first batch of jobs that compose.

    Args:
        varied: The keys that vary.
        fixed: The overrides that all jobs share.
    """

    def __init__(self, varied: Sequence[str], fixed: Sequence[str]) -> None:
        self.varied, self.fixed = list(varied), list(fixed)
        self.run: Any = None

    def began(self, config: DictConfig, folder: Path) -> list[str]:
        """Start the MLflow run, once; return overrides that make jobs its children."""
        if self.run is None:
            title = f"{config.name or 'sweep'} over {', '.join(self.varied) or 'nothing'}"
            self.run = _open(config, folder, title)
            self.run.log_tags({"sweep.varied": ", ".join(self.varied), "sweep.fixed": " ".join(self.fixed)})
        return _overrides(self.run)

    def ended(self, status: str) -> None:
        """End the MLflow run."""
        if self.run is not None:
            _close(self.run, status)


def _open(config: DictConfig, folder: Path, title: str, run_id: str | None = None, uri: str | None = None) -> Any:
    tracking = OmegaConf.merge(config.tracking, {"system_metrics": False})  # the jobs log them
    assert isinstance(tracking, DictConfig)
    return open_run(tracking, folder, title, run_id, uri)


def _overrides(run: Any) -> list[str]:
    return [f"tracking.parent={run.run_id}"] if run.run_id else []


def _close(run: Any, status: str) -> bool:
    """End the run and its unfinished jobs; delete the run if it has no jobs; return whether it was deleted."""
    run.end_children()
    run.close(status)
    return bool(run.delete_if_childless())
