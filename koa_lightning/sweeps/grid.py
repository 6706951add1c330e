"""Hydra's own grid: its jobs know what differs between them, and are the children of one MLflow run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from koa_lightning.config import outcome, overrides, trial
from koa_lightning.sweeps.parent import GridParent


def sweep(sweeper: Any, run: Callable[[list[str]], Any], arguments: list[str]) -> Any:
    """Run every combination under one MLflow run.

    Args:
        sweeper: The `GridSweeper`; it gets `more`, the overrides of every job, and `parent`.
        run: Hydra's own sweep.
        arguments: The overrides of the command line.

    Raises:
        SystemExit: With 1 (in part) or 2 (none) where jobs in processes of their own did not succeed.
    """
    parser = OverridesParser.create(config_loader=sweeper.hydra_context.config_loader)
    parsed = parser.parse_overrides(arguments)
    varied = [str(item.get_key_element()) for item in parsed if item.is_sweep_override()]
    told = trial.Trial(varied=tuple(varied)).dumps()
    sweeper.more = [f"++hydra.job.env_set.{trial.VARIABLE}={overrides.quote(told)}"]
    sweeper.parent = GridParent(varied, [str(item.input_line) for item in parsed if not item.is_sweep_override()])
    status = "FAILED"
    try:
        batches = run(arguments)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        sweeper.parent.ended(status)
    values = [job.return_value for batch in batches for job in batch]
    elsewhere = sweeper.config.hydra.runtime.choices["hydra/launcher"] != "basic"
    if elsewhere and None in values:  # their exit codes stayed in their processes
        raise SystemExit(outcome.BAD_INPUT if set(values) == {None} else outcome.PARTLY)
    return batches
