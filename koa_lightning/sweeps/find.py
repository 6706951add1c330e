"""Find a study by its name, or the newest one."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from koa_lightning.errors import InputError
from koa_lightning.sweeps.study import open_storage, public, url

if TYPE_CHECKING:
    from optuna import Study

KEY = "storage"  # where `koa_lightning.sweep_report` finds the database
COMPARE_GRID = "python -m koa_lightning.compare \"search=tags.`mlflow.parentRunId` = 'ID'\" compares its runs"
_SHOWN = 5  # studies named in a line


def find_study(name: str | None, storage: str | None) -> Study:
    """Return a study; never create a database.

    Args:
        name: Name of the study; None takes the newest, and prints the others.
        storage: As for `open_study`.

    Raises:
        InputError: The database is missing or cannot be read, or holds no such study.
    """
    import optuna

    address = url(storage, KEY)
    file = Path(address.removeprefix("sqlite:///"))
    if address.startswith("sqlite") and not file.is_file():
        raise InputError(
            f"{file}: no such database of sweeps; name the right one by storage=sqlite:///FILE.db (a "
            f"grid typed without sweep= keeps none; {COMPARE_GRID})"
        )
    opened = open_storage(address, key=KEY)
    begun = {each.study_name: each.datetime_start for each in optuna.get_all_study_summaries(opened)}
    newest = sorted(begun, key=lambda one: (begun[one] is not None, str(begun[one])), reverse=True)
    if not begun:
        raise InputError(
            f"{public(address)}: holds no sweep yet; start one: python -m koa_lightning.train -m sweep=tpe"
        )
    if name is None and len(begun) > 1:
        print(f"{len(begun)} sweeps: {_listed(newest)}; the newest is taken, name=SWEEP takes another", file=sys.stderr)
    if name is not None and name not in begun:
        near = difflib.get_close_matches(name, newest, n=3, cutoff=0.4) or newest
        raise InputError(f"name={name}: no such sweep in {public(address)}; the nearest: {_listed(near)}")
    return optuna.load_study(study_name=name or newest[0], storage=opened)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
