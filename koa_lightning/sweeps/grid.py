"""Hydra's own grid: each job knows which keys vary, and all are children of one MLflow run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from koa_lightning.config import outcome, overrides, trial
from koa_lightning.sweeps import closing
from koa_lightning.sweeps.parent import GridParent
from koa_lightning.sweeps.refused import refused


def sweep(sweeper: Any, run: Callable[[list[str]], Any], arguments: list[str]) -> Any:
    """Run every combination under one MLflow run.

    Args:
        sweeper: The `GridSweeper`; it gets `more`, the overrides of every job, and `parent`.
        run: Hydra's own sweep.
        arguments: The overrides of the command line.

    Raises:
        SystemExit: 1 if some jobs in processes of their own failed, 2 if all of them did.
    """
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    parsed = parser.parse_overrides(arguments)
    varied = [str(item.get_key_element()) for item in parsed if item.is_sweep_override()]
    described = trial.Trial(varied=tuple(varied)).dumps()
    sweeper.more = [f"++hydra.job.env_set.{trial.VARIABLE}={overrides.quote(described)}"]
    sweeper.parent = GridParent(varied, [str(item.input_line) for item in parsed if not item.is_sweep_override()])
    status = "FAILED"
    try:
        with trial.saying_together():
            batches = run(arguments)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except Exception as error:
        if (line := refused(str(sweeper.config.hydra.runtime.choices["hydra/launcher"]), error)) is not None:
            raise line from error
        raise
    finally:
        sweeper.parent.ended(status)
    jobs = [job for batch in batches for job in batch]
    values = [job.return_value for job in jobs]
    _say(jobs, varied, sweeper.parent.run)
    elsewhere = sweeper.config.hydra.runtime.choices["hydra/launcher"] != "basic"
    if elsewhere and None in values:  # their exit codes stayed in their processes
        raise SystemExit(outcome.BAD_INPUT if set(values) == {None} else outcome.PARTLY)
    return batches


def _say(jobs: list[Any], varied: list[str], parent: Any) -> None:
    """Print one line per job, best first, and the command that compares their runs.

    Args:
        jobs: Hydra's `JobReturn` of each job.
        varied: The keys that vary.
        parent: Their tracked run, or None.
    """
    rows = []
    for number, job in enumerate(jobs):
        typed = {overrides.key(item): overrides.value(item) for item in job.overrides or []}
        value = job.return_value if isinstance(job.return_value, int | float) else None
        rows.append((number, value, [typed.get(overrides.key(name), "") for name in varied]))
    monitor, mode = (str(jobs[0].cfg.get(name, "")) for name in ("monitor", "mode")) if jobs else ("", "")
    closing.show_grid(rows, varied, monitor, best_is_highest=mode == "max")
    if parent is not None and parent.run_id and sum(value is not None for _, value, _ in rows) > 1:
        print(f"compare: python -m koa_lightning.compare \"search=tags.`mlflow.parentRunId` = '{parent.run_id}'\"")
