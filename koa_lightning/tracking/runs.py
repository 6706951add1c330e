"""Find runs by an id, a name, or a search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from koa_lightning.errors import InputError
from koa_lightning.tracking.store import Store, failing_as_input_error, first_line

ADVICE = "put it right, or name another store by tracking.uri="
_ID = re.compile(r"(?:runs:/)?([0-9a-f]{32})/?")
_SHOWN = 5


def find_run(store: Store, word: str) -> Run:
    """Return the run with an id (also as `runs:/ID`), or the only run with a name, in any experiment.

    Raises:
        InputError: There is no such run, it was deleted, several have the name, or the store fails.
    """
    with failing_as_input_error(f"run={word}", ADVICE):
        if found := _ID.fullmatch(word):
            return _by_id(store, found[1])
        if not word.strip():
            raise InputError("run=: must be the id or the name of a run; the list of runs shows both (make ui)")
        if "'" in word and '"' in word:
            raise InputError(f"run={word}: a name with both kinds of quotes cannot be searched for; type the run's id")
        quote = '"' if "'" in word else "'"
        named = list(search(store.client(), f"attributes.run_name = {quote}{word}{quote}"))
    if not named:
        raise InputError(f"run={word}: no run of this id or name in {store.name}; is tracking.uri right?")
    if len(named) > 1:
        some = ", ".join(f"{run.info.run_id} ({_began(run)}, {run.info.status.lower()})" for run in named[:_SHOWN])
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise InputError(f"run={word}: {len(named)} runs have this name; type the id of one: {some}{more}")
    return named[0]


def find_runs(store: Store, words: list[str], expression: str | None = None) -> list[Run]:
    """Return the runs of ids and names, and those that a search finds, each once.

    Args:
        store: The store of the runs.
        words: Ids and names.
        expression: In MLflow's search language, e.g. "metrics.`best/quadratic_kappa` > 0.7 and params.seed = '42'".

    Raises:
        InputError: As `find_run`; the expression cannot be read, or finds nothing.
    """
    runs = [find_run(store, word) for word in words]
    if expression:
        try:
            found = list(search(store.client(), expression))
        except MlflowException as error:
            raise InputError(
                f'search={expression}: {first_line(error)}; type e.g. search="metrics.`best/mae` < 0.6"'
            ) from error
        if not found:
            raise InputError(f"search={expression}: finds no run in {store.name}")
        runs += found
    return list({run.info.run_id: run for run in runs}.values())


def children(client: MlflowClient, run: Run) -> list[Run]:
    """Return the runs that belong to a run, e.g. the jobs of a sweep, oldest first."""
    own = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.info.run_id}'"
    return list(search(client, own, [run.info.experiment_id]))


def search(client: MlflowClient, expression: str, experiments: list[str] | None = None) -> Iterator[Run]:
    """Yield the runs that a search finds, oldest first; by default in all experiments."""
    if experiments is None:
        experiments = [found.experiment_id for found in pages(client.search_experiments)]
    yield from pages(client.search_runs, experiments, expression, order_by=["attributes.start_time ASC"])


def pages(ask: Callable[..., Any], *arguments: Any, **more: Any) -> Iterator[Any]:
    """Yield the results of a search in MLflow, page by page."""
    token = None
    while True:
        page = ask(*arguments, **more, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _by_id(store: Store, run_id: str) -> Run:
    try:
        run = store.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise InputError(f"run={run_id}: no such run in {store.name}; is tracking.uri right?") from None
        raise
    if run.info.lifecycle_stage == "deleted":
        raise InputError(f"run={run_id}: was deleted; restore it: {store.restore('runs', run_id)}")
    return run


def _began(run: Run) -> str:
    return datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M")
