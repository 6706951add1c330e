"""A job's side of a sweep: its trial, its reports, and its outcome. No heavy imports here.

A user's own program reports with `report(value, step)` and ends when it returns True:

    if trial.report(accuracy, epoch):
        raise trial.Pruned
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from koa_lightning.config import environment, overrides
from koa_lightning.config.outcome import one_line
from koa_lightning.errors import DivergedError, LostProcessError

VARIABLE = "KOA_SWEEP"
SAID_VARIABLE = "KOA_SAID"  # a folder with an empty file per printed line, while a sweep runs
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
STATE_TAG = "sweep.state"
ENSEMBLE_TAG = "sweep.ensemble"
"""Tag of a sweep's MLflow run: `true` if its trials are finally evaluated together."""


_said = set[tuple[str, str]]()


class Pruned(Exception):  # noqa: N818  not an error
    """Ends a job that performs too badly to continue; this is not a failure."""


@dataclass(frozen=True)
class Trial:
    """What a job knows about its sweep.

    Attributes:
        sweep: The name of the sweep; empty in a sweep without a study, such as Hydra's own grid.
        number: Of the trial.
        trial_id: In the database.
        repeat: Index of the repeat, from 0; only the first is pruned.
        folder: Of the run.
        varied: The keys in which the jobs of the sweep differ.
        metrics: The sweep's objectives.
        pruner: Its config, or None.
    """

    sweep: str = ""
    number: int = 0
    trial_id: int = 0
    repeat: int = 0
    folder: str = ""
    varied: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    pruner: dict[str, Any] | None = None

    def dumps(self) -> str:
        """Return it as the text of the environment variable."""
        return json.dumps(asdict(self))

    def differs(self, typed: Sequence[str]) -> list[str]:
        """Return the job's overrides that differ from those of the other jobs."""
        varied = {overrides.key(name) for name in self.varied}
        return [item for item in typed if overrides.key(item) in varied]


def current() -> Trial | None:
    """Return the trial of this process, or None."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    known = json.loads(text)
    return Trial(**{**known, "varied": tuple(known["varied"]), "metrics": tuple(known["metrics"])})


@contextmanager
def saying_together() -> Iterator[None]:
    """Let all jobs started meanwhile, in any process on this machine, print each line only once."""
    if SAID_VARIABLE in os.environ:  # folds of a sweep's job share the folder of the sweep
        yield
        return
    with tempfile.TemporaryDirectory(prefix="koa-said-") as folder, environment.variables(**{SAID_VARIABLE: folder}):
        yield


def say_once(line: str, *, warning: bool = False) -> None:
    """Print a line, unless an earlier job or fold of this sweep has printed it to the same terminal or file.

    Args:
        line: A fact about a whole run, such as a caveat or the network.
        warning: Print it to standard error.
    """
    trial = current()
    together = trial.sweep if trial is not None else os.environ.get(SAID_VARIABLE)
    if together is not None:
        if (together, line) in _said:
            return
        _said.add((together, line))
        if _said_by_another(line, sys.__stderr__ if warning else sys.__stdout__):
            return
    print(line, file=sys.stderr if warning else sys.stdout, flush=True)


def _said_by_another(line: str, stream: Any) -> bool:
    """Tell whether another process of the sweep printed a line to the same terminal or file."""
    folder = os.environ.get(SAID_VARIABLE)
    if not folder:
        return False
    try:
        place = os.fstat(stream.fileno())
        name = hashlib.sha256(f"{place.st_dev} {place.st_ino} {line}".encode()).hexdigest()
        Path(folder, name).touch(exist_ok=False)
    except FileExistsError:
        return True
    except (OSError, ValueError, AttributeError):  # another machine, or no space: better twice than never
        return False
    return False


def of_run(folder: Path) -> Trial | None:
    """Return the trial whose run has this folder, or None: a job may train others, such as folds."""
    trial = current()
    mine = trial is not None and trial.sweep and Path(trial.folder).resolve() == folder.resolve()
    return trial if mine else None


def tags(folder: Path) -> dict[str, str]:
    """Return MLflow tags of the run in a folder: its trial, and how it differs from the others."""
    from hydra.core.hydra_config import HydraConfig

    trial = current()
    if trial is None or not HydraConfig.initialized():
        return {}
    differs = " ".join(trial.differs([str(item) for item in HydraConfig.get().overrides.task]))
    known = {"sweep.differs": differs}
    return known | ({"sweep": trial.sweep, "sweep.trial": str(trial.number)} if of_run(folder) else {})


def state_tags(state: str) -> dict[str, str]:
    """Return the tag with the outcome of a sweep's job; nothing outside of a sweep."""
    return {STATE_TAG: state} if current() is not None else {}


def error_tags(error: Exception) -> dict[str, str]:
    """Return the tags with the reason why a run failed."""
    outcome = failure(error, say=False)
    return {"error": outcome["error"], "error_kind": outcome["error_kind"], **state_tags(FAILED)}


class Job:
    """A program's function, wrapped so that its outcome can pass through any launcher.

    Args:
        function: Of the config; returns a number, several, or a mapping with the metrics by name (and perhaps
            `run_id`, `marks`, `pruned`).
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, cfg: Any) -> dict[str, Any]:
        """Run it; return a plain mapping: `state`, `seconds`, `result`, and of a failure `error` and `error_kind`."""
        start = time.monotonic()
        try:
            result = self.function(cfg)
            pruned = isinstance(result, Mapping) and bool(result.get("pruned"))
            outcome: dict[str, Any] = {"state": PRUNED if pruned else COMPLETE, "result": _plain(result)}
        except Exception as error:
            outcome = {"state": PRUNED} if is_pruned(error) else failure(error)
        return {**outcome, "seconds": round(time.monotonic() - start, 3)}


def _plain(result: Any) -> Any:
    """Return numbers, texts and lists of them; any other result stays in its process."""
    if isinstance(result, Mapping):
        return {str(key): _plain(value) for key, value in result.items()}
    if isinstance(result, list | tuple):
        return [_plain(value) for value in result]
    if result is None or isinstance(result, str | bool):
        return result
    try:
        return float(result)
    except (TypeError, ValueError):
        return str(result)


def is_pruned(error: Exception) -> bool:
    """Tell whether an exception means that the job was pruned; Optuna's own exception counts too."""
    return isinstance(error, Pruned) or type(error).__name__ == "TrialPruned"


def failure(error: Exception, say: bool = True) -> dict[str, Any]:
    """Return the outcome of a job that failed.

    Args:
        error: The exception that ended it.
        say: Whether to print the traceback of a fault of the program.
    """
    kind, line = kind_of(error), one_line(error)
    if kind == "error" and say:
        traceback.print_exception(error)
    said = (line or f"{type(error).__name__}: {error}").strip()
    return {"state": FAILED, "error": " ".join(said.splitlines()[:1]), "error_kind": kind}


def kind_of(error: BaseException) -> str:
    """Return out_of_memory, diverged, bad_input, or error (a fault of the program)."""
    links = list(_chain(error))
    if any(_is_out_of_memory(link) for link in links):
        return "out_of_memory"
    if any(isinstance(link, DivergedError | FloatingPointError) for link in links):
        return "diverged"
    if isinstance(error, LostProcessError):
        return "error"
    return "bad_input" if isinstance(error, Exception) and one_line(error) is not None else "error"


def _chain(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell; on a GPU torch raises its own type, on a CPU a RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
