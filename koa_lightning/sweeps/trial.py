"""Reports of a running job to its sweep.

Your own program reports with `report(value, step)` and ends when it returns True:

    if trial.report(accuracy, epoch):
        raise trial.Pruned
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from optuna.exceptions import UpdateFinishedTrialError

from koa_lightning.config.trial import Pruned, current
from koa_lightning.errors import InputError
from koa_lightning.sweeps.study import open_study

__all__ = ["Pruned", "make_pruner", "report"]


def report(value: float, step: int) -> bool:
    """Report the first metric after a step, e.g. an epoch; return whether the job should end here.

    NaN is not reported. Outside of a sweep this does nothing.
    """
    trial = current()
    if trial is None or not trial.sweep or trial.repeat or value != value:
        return False

    study, pruner = _study(trial.sweep, json.dumps(trial.pruner))
    try:
        study._storage.set_trial_intermediate_value(trial.trial_id, step, float(value))
    except UpdateFinishedTrialError:  # the sweep was interrupted and no longer waits for this job
        return True
    return pruner is not None and bool(pruner.prune(study, study._storage.get_trial(trial.trial_id)))


@functools.lru_cache(maxsize=1)
def _study(name: str, pruner: str) -> tuple[Any, Any]:

    return open_study(None, name, ready=True), make_pruner(json.loads(pruner))


def make_pruner(config: Mapping[str, Any] | None) -> Any:
    """Return the pruner of a config; None if it has none.

    Raises:
        InputError: The pruner cannot be built.
    """
    if not config:
        return None

    try:
        return instantiate(dict(config))
    except HydraException as error:
        raise InputError(f"sweep.pruner: {str(error.__cause__ or error).splitlines()[0]}") from error
