"""One call of a sweep: take trials, launch their jobs, and record the results in the study."""

from __future__ import annotations

import os
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from koa_lightning.config import outcome, overrides, trial
from koa_lightning.errors import InputError
from koa_lightning.sweeps import closing, launch, on_ray, space, study
from koa_lightning.sweeps import settings as sweep_settings
from koa_lightning.sweeps.launch import Program
from koa_lightning.sweeps.methods import Method
from koa_lightning.sweeps.outcomes import Outcomes, with_values
from koa_lightning.sweeps.refused import refused
from koa_lightning.sweeps.settings import Settings

if TYPE_CHECKING:
    import optuna


@dataclass
class _Open:
    """A trial that has begun and not ended."""

    trial: optuna.Trial
    point: dict[str, space.Value]
    values: list[list[float]] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Engine:
    """One call of a sweep."""

    def __init__(
        self,
        program: Program,
        settings: Settings,
        searched: space.Space,
        fixed: list[str],
        method: Method,
        found: optuna.Study,
        folder: Path,
        config: DictConfig,
        listener: Any,
    ) -> None:
        self.program, self.settings, self.fixed, self.method = program, settings, fixed, method
        self.study, self.folder, self.config, self.listener = found, folder, config, listener
        self.varied = tuple(searched.typed)
        points = len(method.points) if settings.method == "grid" else settings.trials
        self.total = min(settings.trials or points or 0, points or 0)
        self.open: dict[int, _Open] = {}
        self.jobs: dict[int, tuple[int, int]] = {}  # number of a job -> trial, repeat
        self.waiting: deque[tuple[int, int]] = deque()
        self.begun, self.failures = 0, 0
        self.wrong: str | None = None  # why every trial would fail
        self.more: list[str] = []  # overrides that the listener requests
        self.composed: set[frozenset[tuple[str, str]]] = set()  # choices whose config composes
        self.outcomes = Outcomes()

    def run(self) -> int:
        """Search; return the exit code."""
        study.mark_interrupted(self.study)
        self.study.set_user_attr("koa_trials", self.total)
        done = len(study.ended(self.study))
        print(
            f"sweep {self.study.study_name}: {done} of {self.total} trials done; runs in {self.folder}, database "
            f"{study.public(os.environ[study.STORAGE_VARIABLE])}",
            flush=True,
        )
        if done < self.total:
            status = self._search()
            if status == "KILLED":
                print(f"interrupted; resume with: {self.study.user_attrs['koa_command']}", flush=True)
                return outcome.INTERRUPTED
        if self.wrong is not None:
            raise InputError(self.wrong)
        closing.show(self.study, self.total, sweep_settings.program())
        if self._stopped():
            outcome.say_error(
                f"ended after {self.failures} failed trials (sweep.max_failures={self.settings.max_failures})"
            )
        elif self.settings.ensemble and len(study.ended(self.study)) >= self.total:
            self.listener.together(self.study, self.config, self.folder)
        found = closing.counts(self.study)
        whole = len(study.ended(self.study)) >= self.total and not found.get("failed")
        return outcome.DONE if whole else outcome.PARTLY

    def _search(self) -> str:
        status = "FAILED"
        try:
            if self.listener is not None:
                self.more = self.listener.began(self.study, self.config, self.folder)
            with trial.saying_together():
                self._launch()
            status = "FINISHED" if self.wrong is None else "FAILED"
        except KeyboardInterrupt:
            status = "KILLED"
        finally:
            study.mark_interrupted(self.study)
            if self.listener is not None:
                self.listener.ended(self.study, status)
        return status

    def _launch(self) -> None:
        config = self.program.config
        with open_dict(config):
            config.hydra.sweep.dir = str(self.folder)
            if self.settings.n_jobs > 1 and "n_jobs" in config.hydra.launcher:  # joblib's, and ours
                config.hydra.launcher.n_jobs = self.settings.n_jobs
        program = self.program._replace(function=trial.Job(self.program.function))
        kind = self._choice("hydra/launcher")
        if kind == "processes":
            launch.run(program, self.take, self.ended, self.settings.n_jobs)
            return
        if kind == "ray":
            on_ray.run(program, self.take, self.ended, self.settings.n_jobs, on_ray.settings(config.hydra.launcher))
            return
        if kind == "basic" and self.settings.n_jobs > 1:
            raise InputError(f"sweep.n_jobs={self.settings.n_jobs}: hydra/launcher=basic runs one job; type =processes")
        launcher = Plugins.instance().instantiate_launcher(program.context, program.function, config)
        while batch := [job for job in (self.take() for _ in range(self.settings.n_jobs)) if job is not None]:
            numbers = [number for number, _ in batch]
            returned = _launched(kind, launcher, [job for _, job in batch], numbers[0])
            for number, job in zip(numbers, returned, strict=True):
                self.ended(number, job)

    def take(self) -> tuple[int, list[str]] | None:
        """Return the next job: its number and overrides; None if there is none now."""
        while not self.waiting:
            if self._stopped() or len(study.ended(self.study)) + len(self.open) >= self.total:
                return None
            self._begin()
        number, repeat = self.waiting.popleft()
        self.begun += 1
        self.jobs[self.begun] = (number, repeat)
        return self.begun, self._overrides(self.open[number], repeat)

    def _begin(self) -> None:
        """Begin a trial; if its config does not compose, it fails here."""
        begun, point = self.method.propose(self.study)
        begun.set_user_attr("overrides", [*self.fixed, *space.typed(point)])
        self.open[begun.number] = opened = _Open(begun, point)
        choices = frozenset((key, value) for key, value in point.items() if isinstance(value, str))
        try:
            if choices not in self.composed:  # numbers do not affect whether a config composes
                self.program.context.config_loader.load_sweep_config(self.program.config, self._overrides(opened, 0))
        except (HydraException, OmegaConfBaseException) as error:
            self._fail(opened, trial.failure(error))
            return
        self.composed.add(choices)
        self.waiting.append((begun.number, 0))

    def _overrides(self, opened: _Open, repeat: int) -> list[str]:
        """Return the overrides of a job, including the variable that describes its trial to it."""
        number = opened.trial.number
        subfolder = f"{number}" if self.settings.repeats == 1 else f"{number}-{repeat}"
        own = trial.Trial(
            sweep=self.study.study_name,
            number=number,
            trial_id=opened.trial._trial_id,
            repeat=repeat,
            folder=str(self.folder / subfolder),
            varied=(*self.varied, *([self.settings.repeat_key] if self.settings.repeats > 1 else [])),
            metrics=tuple(self.settings.metrics),
            pruner=self.settings.pruner,
        )
        items = [*self.fixed, *space.typed(opened.point), *self.more]
        if self.settings.repeats > 1:
            key = self.settings.repeat_key
            items = [item for item in items if overrides.key(item) != key]
            items.append(f"{key}={OmegaConf.select(self.config, key) + repeat}")
        typed = {overrides.key(str(item)) for item in self.program.config.hydra.overrides.hydra}
        items += [f"{g}={self._choice(g)}" for g in ("hydra/sweeper", "hydra/launcher") if g not in typed]
        items += [f"hydra.sweep.dir={overrides.quote(str(self.folder))}", f"hydra.sweep.subdir='{subfolder}'"]
        return [*items, f"++hydra.job.env_set.{trial.VARIABLE}={overrides.quote(own.dumps())}"]

    def _choice(self, group: str) -> str:
        return str(self.program.config.hydra.runtime.choices[group])

    def ended(self, number: int, job: Any) -> bool:
        """Record the result of a job; return whether further jobs may begin."""
        trial_number, repeat = self.jobs.pop(number)
        opened = self.open.get(trial_number)
        if opened is None:  # another repeat of the trial failed
            return not self._stopped()
        outcome = self.outcomes.read(job)
        opened.seconds += outcome.get("seconds", 0.0)
        result = outcome.get("result")
        if isinstance(result, Mapping):
            opened.run_ids += [result["run_id"]] if result.get("run_id") else []
            opened.caveats += result.get("marks") or []
        if outcome["state"] == trial.COMPLETE:
            outcome = with_values(outcome, self.settings.metrics)
            opened.values += [outcome["values"]] if "values" in outcome else []
        if outcome["state"] == trial.FAILED:
            self._fail(opened, outcome)
        elif outcome["state"] == trial.PRUNED:
            self._tell(opened, "PRUNED")
        elif len(opened.values) == self.settings.repeats:
            means = [statistics.fmean(column) for column in zip(*opened.values, strict=True)]
            self._tell(opened, "COMPLETE", means)
        elif repeat == 0:  # the first job was not pruned, so run the repeats
            self.waiting.extend((trial_number, i) for i in range(1, self.settings.repeats))
        return not self._stopped()

    def _fail(self, opened: _Open, outcome: Mapping[str, Any]) -> None:
        """End a trial that failed; if the very first one was misconfigured, every other would fail too."""
        opened.trial.set_user_attr("error", outcome["error"])
        opened.trial.set_user_attr("error_kind", outcome["error_kind"])
        if outcome["error_kind"] == "bad_input" and not study.ended(self.study):
            self.wrong = outcome["error"]
            opened.trial.set_user_attr("interrupted", True)  # it is repeated once the error is corrected
        self.failures += 1
        self.waiting = deque(job for job in self.waiting if job[0] != opened.trial.number)
        self._tell(opened, "FAIL")

    def _tell(self, opened: _Open, state: str, values: list[float] | None = None) -> None:
        from optuna.trial import TrialState

        done, number = opened.trial, opened.trial.number
        one = len(self.settings.metrics) == 1
        done.set_user_attr("values", [v[0] if one else v for v in opened.values])
        done.set_user_attr("run_ids", opened.run_ids)
        done.set_user_attr("seconds", round(opened.seconds, 3))
        done.set_user_attr("marks", list(dict.fromkeys(opened.caveats)))
        self.study.tell(number, values, state=TrialState[state])
        del self.open[number]
        if self.wrong is None:
            frozen = next(t for t in self.study.get_trials(deepcopy=False) if t.number == number)
            print(closing.trial_line(self.study, frozen, self.total), flush=True)

    def _stopped(self) -> bool:
        most = self.settings.max_failures
        return self.wrong is not None or (most is not None and self.failures > most)


def _launched(kind: str, launcher: Any, jobs: list[list[str]], first: int) -> list[Any]:
    """Run a batch; if the launcher itself fails, all of its jobs failed, unless none could begin."""
    try:
        return list(launcher.launch(jobs, initial_job_idx=first))
    except Exception as error:
        if (line := refused(kind, error)) is not None:
            raise line from error
        return [JobReturn(status=JobStatus.FAILED, _return_value=error) for _ in jobs]
