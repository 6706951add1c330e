"""The database of sweeps: open it, lock a study in it, mark the trials that a killed sweep left behind.

A sweep is one study of Optuna. Beside Optuna's own data it holds:

- `study.user_attrs`: `koa_space` (override key -> distribution as typed), `koa_fixed` (the overrides that all trials
  share), `koa_command` (the command line that resumes it), `koa_ensemble` (whether its trials are evaluated
  together at the end), `koa_metrics` and `koa_directions` (names, and maximize or minimize), `koa_parent_run` (id of
  the MLflow run of the sweep, or ""), `koa_tracking_uri` (or ""), `koa_folder` (of its runs), `koa_trials` (how many
  were requested last), `koa_fingerprint` (of everything that makes its values comparable).
- `trial.params`: by override key; a choice is the text that one would type, so `loss` -> `focal`.
- `trial.user_attrs`: `overrides` (all of them, ready to type), `run_ids` (MLflow, one per repeat), `values` (one per
  repeat; a list each with several metrics), `seconds`, `marks` (e.g. phantom data), `error` (one line) and `error_kind`
  (out_of_memory, diverged, bad_input, error) of a failed trial, `interrupted` (true: its process died; it was
  repeated) and `repeats` (the number of the interrupted trial that it repeats). One without `overrides` died before
  its last value was drawn: it is not repeated, but its place is reused (`koa_lightning.sweeps.methods`).
- Intermediate values: the first metric after each epoch.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

STORAGE_VARIABLE = "KOA_SWEEP_STORAGE"
DEFAULT_FILE = Path("mlruns") / "sweeps.db"
KEY = "sweep.storage"  # the setting that names the database
_BUSY_SECONDS = 120  # how long a process waits for its turn to write to a sqlite file
_CONNECT_SECONDS = 10


def open_study(storage: str | None, name: str, ready: bool = False) -> Study:
    """Return the study of a sweep.

    Args:
        storage: `sqlite:///FILE.db` or `postgresql://USER@HOST/DATABASE`; None takes the variable KOA_SWEEP_STORAGE,
            and without it `mlruns/sweeps.db`.
        name: Name of the sweep.
        ready: Whether the tables are known to exist, as in a job of a running sweep; then skip the checks.

    Raises:
        InputError: No such study, or the database cannot be read.
    """
    import optuna

    address = url(storage)
    file = _file(address)
    if file is not None and not file.is_file():
        raise InputError(f"{file}: no such database of sweeps; name the right one by storage=sqlite:///FILE.db")
    opened = open_storage(address, ready)
    try:
        return optuna.load_study(study_name=name, storage=opened)
    except KeyError:
        known = sorted(optuna.get_all_study_names(opened))
        shown = f"there are {', '.join(known)}" if known else "it holds none yet"
        raise InputError(f"sweep {name}: no such sweep in {public(address)}; {shown}") from None


def url(storage: str | None, key: str = KEY) -> str:
    """Return the full address of the database of sweeps, with the driver and an absolute path.

    Args:
        storage: As for `open_study`.
        key: Where it was typed, for messages.

    Raises:
        InputError: The address is of another kind.
    """
    given = storage or os.environ.get(STORAGE_VARIABLE) or f"sqlite:///{DEFAULT_FILE}"
    if given.startswith("sqlite:///") and given != "sqlite:///:memory:":
        return f"sqlite:///{user_path(given.removeprefix('sqlite:///')).absolute().as_posix()}"
    if found := re.match(r"postgres(?:ql)?(?:\+\w+)?(?=://)", given):
        return f"postgresql+psycopg{given[found.end() :]}"
    raise InputError(
        f"{key}={public(given)}: must be sqlite:///FILE.db or postgresql://USER@HOST/DATABASE, "
        f"or omitted for {DEFAULT_FILE}"
    )


def public(address: str) -> str:
    """Return an address without a password."""
    return re.sub(r"(?<=://)([^/@\s:]+):[^/@\s]*@", r"\1@", address)


def open_storage(address: str, ready: bool = False, key: str = KEY) -> RDBStorage:
    """Return Optuna's storage at an address from `url`; create its tables if needed.

    Args:
        address: Address of the database.
        ready: Whether the tables are known to exist.
        key: Where the address was typed, for messages.

    Raises:
        InputError: It cannot be reached or written, is of another version of Optuna, or belongs to another program.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": _waiting(address), "pool_pre_ping": True}
    with _readable(address, key):
        if ready:
            return optuna.storages.RDBStorage(address, options, True, skip_table_creation=True)
        with _first_come(address):
            engine = sqlalchemy.create_engine(address, **options)
            tables = set(sqlalchemy.inspect(engine).get_table_names())
            engine.dispose()
            if tables and "studies" not in tables:
                whose = f"belongs to another program (tables {', '.join(sorted(tables)[:3])}, ...)"
                raise InputError(f"{key}={public(address)}: {whose}; give sweeps a database of their own")
            return optuna.storages.RDBStorage(address, engine_kwargs=options)


def _waiting(address: str) -> dict[str, Any]:
    """Return how long a connection waits: for its turn in a file, or for a server."""
    return {"timeout": _BUSY_SECONDS} if _file(address) else {"connect_timeout": _CONNECT_SECONDS}


@contextmanager
def _readable(address: str, key: str) -> Iterator[None]:
    """Turn an error of a database into one line."""
    import optuna
    import sqlalchemy

    what = f"{key}={public(address)}"
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        raise InputError(f"{what}: cannot be opened ({_reason(error)}); put it right, or name another") from error
    except RuntimeError as error:  # Optuna raises it for tables of another version
        raise InputError(f"{what}: {_reason(error)}") from error
    except ImportError as error:
        raise InputError(f'{what}: {_reason(error)}; type pip install "koa-lightning[server]"') from error


@contextmanager
def holding(address: str, name: str) -> Iterator[None]:
    """Lock out a second sweep of this name; the lock ends when this process dies.

    Raises:
        InputError: Another sweep of this name runs.
    """
    busy = InputError(f"sweep.name={name}: is running already, in another process; wait for it, or stop it")
    with ExitStack() as held:
        with _readable(address, KEY):
            if file := _file(address):
                file.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(file.with_name(f".{file.name}-{_number(name):x}.lock"))
                try:
                    held.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    raise busy from None
            else:  # the lock ends with the connection
                connection = held.enter_context(_advisory(address))
                if not _ask(connection, "SELECT pg_try_advisory_lock(:key)", _number(name)):
                    raise busy
        yield


@contextmanager
def _first_come(address: str) -> Iterator[None]:
    """Let one process at a time create the tables."""
    file = _file(address)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(f".{file.name}.lock"), timeout=_BUSY_SECONDS):
            yield
        return
    with _advisory(address) as connection:
        _ask(connection, "SELECT pg_advisory_lock(:key)", _number("tables"))
        yield


@contextmanager
def _advisory(address: str) -> Iterator[Any]:
    """Open a connection to PostgreSQL that the server drops soon after this machine dies."""
    import sqlalchemy

    options = {
        "connect_timeout": _CONNECT_SECONDS,
        "options": "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10",
    }
    engine = sqlalchemy.create_engine(address, connect_args=options, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _ask(connection: Any, question: str, key: int) -> Any:
    import sqlalchemy

    return connection.execute(sqlalchemy.text(question), {"key": key}).scalar()


def _number(name: str) -> int:
    """Return a hash of a name, of 63 bits."""
    return int.from_bytes(hashlib.blake2b(f"koa-sweep {name}".encode(), digest_size=8).digest()) >> 1


def _file(address: str) -> Path | None:
    return Path(address.removeprefix("sqlite:///")) if address.startswith("sqlite:///") else None


def _reason(error: BaseException) -> str:
    """Return the first line of the deepest cause, without class names and passwords."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return public(re.sub(r"^\(\w+(\.\w+)*\) ", "", lines[0]).rstrip(" .;"))


def mark_interrupted(study: Study) -> list[int]:
    """Fail the trials marked as running that no process runs, and queue those with all their values again.

    Args:
        study: A study that this process holds (`holding`).

    Returns:
        The numbers of the trials that were marked.
    """
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    lost = [trial for trial in trials if trial.user_attrs.get("interrupted")]
    # A trial killed before its last value was drawn holds only part of a point; its place in the search is reused.
    torn = {trial.number for trial in lost if "overrides" not in trial.user_attrs}
    repeated = {trial.user_attrs.get("repeats") for trial in trials if trial.number not in torn}
    # Read from the database, not from the trials just marked: a kill between the two steps loses nothing.
    for trial in lost:
        if trial.number not in torn | repeated:
            study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})
    return [trial.number for trial in running]


def is_vain(study: Study) -> bool:
    """Return whether a sweep has no results: all trials that it began, if any, were misconfigured."""
    trials = study.get_trials(deepcopy=False)
    recorded = [trial.user_attrs for trial in trials if trial.state.name != "WAITING"]
    return all(attrs.get("interrupted") and "error" in attrs for attrs in recorded)


def ended(study: Study) -> list[FrozenTrial]:
    """Return the trials that ended without an interruption."""
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return [trial for trial in finished if not trial.user_attrs.get("interrupted")]
