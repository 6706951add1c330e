"""From the command line to a plain function: compose, validate, call, print, exit code. No heavy imports here."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from koa_lightning.config import cluster, ending, folders, gpus, keys, overrides, signals, trial
from koa_lightning.config import run_folder as resume
from koa_lightning.config.addresses import keep_passwords
from koa_lightning.config.allocator import tune_allocator
from koa_lightning.config.commands import COMMANDS
from koa_lightning.config.compose import compose, config_dir, validate
from koa_lightning.config.outcome import BAD_INPUT, DONE, INTERRUPTED, PARTLY, code_of, one_line, say_error
from koa_lightning.config.places import user_path
from koa_lightning.errors import InputError

# Files that the start of a run leaves in its folder before any result.
_RECORDS = {".hydra", ".lock", "checkpoints", "manifest.parquet", "manifest.part", "multirun.yaml"}


def run(name: str) -> NoReturn:
    """Run a command of `koa_lightning.config.commands` and leave with its exit code.

    Args:
        name: Of the command and of its primary config.
    """
    command = COMMANDS[name]
    before = _function(f"koa_lightning.{command.before}") if command.before else None
    if command.computes:
        tune_allocator()
    start(name, f"koa_lightning.{command.function}", before)


def start(config_name: str, function: str, before: Callable[[list[str]], list[str]] | None = None) -> NoReturn:
    """Compose a config under Hydra, call a function with it, and leave with its exit code.

    Args:
        config_name: The primary config, e.g. `train`.
        function: `module:name` of a plain function of the config; imported only once the config is valid. It returns
            a mapping of metrics (an entry `exit_code` sets the exit code of the program).
        before: May rewrite the overrides, e.g. to resume a run with its original ones; not called for several runs at
            once (`-m`).
    """
    ending.hasten()
    with signals.installed():
        code = _start(config_name, function, before)
        if code == INTERRUPTED:
            code = signals.exit_code()
            cluster.requeue_if_asked()
    sys.exit(code)


def _start(config_name: str, function: str, before: Callable[[list[str]], list[str]] | None) -> int:
    # By default Hydra prints its own report and exits with 1; this variable makes its exceptions reach us.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    codes, jobs = [DONE], []
    composed, there = False, frozenset[Path]()

    def job(cfg: DictConfig) -> float | dict[str, Any] | None:
        nonlocal composed
        composed = True
        code, objective = _run_job(cfg, function, config_name, there)
        jobs.append(code)
        return objective

    sweep: Path | None = None
    try:
        folders.use([])
        flags, rest = overrides.sort_out(sys.argv[1:])
        folders.use(overrides.config_folders(sys.argv[1:]))
        if {"-h", "--help"} & set(flags):
            print(keys.help_text(config_name))
            sys.exit(DONE)
        overrides.check_places(rest)
        rest = keep_passwords(overrides.at_home(rest))
        keys.check_choices(rest)
        if "-m" in flags or "--multirun" in flags:
            rest, sweep = _name_sweep(overrides.quote_unreadable(rest), config_name)
        elif searched := next((item for item in rest if overrides.key(item) == "sweep"), None):
            raise InputError(f"{searched}: a sweep needs -m; type it too")
        else:
            rest = overrides.quote_paths(before(rest) if before else rest)
        overrides.check_output(rest)
        there = _empty_folders(rest)
        sys.argv[1:] = [*flags, *rest]
        hydra.main(config_path=str(config_dir()), config_name=config_name, version_base="1.3")(job)()
    except KeyboardInterrupt:
        say_error("interrupted")
        codes.append(INTERRUPTED)
    except SystemExit as end:  # a sweep sets its own exit code
        codes.append(end.code if isinstance(end.code, int) else DONE)
    except BrokenPipeError:
        _stop_writing()
        codes.append(PARTLY)
    except Exception as exception:
        line = one_line(exception, config_name) or (None if composed else _unread(exception))
        if line is None:
            raise
        say_error(line)
        codes.append(code_of(exception))
    if sweep is not None:
        _remove_if_empty(sweep, there)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _stop_writing()
    if BAD_INPUT in jobs and {DONE, PARTLY} & set(jobs):  # some runs of `-m` succeeded
        jobs = [PARTLY]
    return max(codes + jobs)


def _unread(exception: Exception) -> str | None:
    """Return one line why a command could not be composed, or None if the exception is a fault of the program."""
    if isinstance(exception, UnicodeDecodeError):
        return f"a file of --config-dir is not UTF-8 ({exception}); save it as UTF-8"
    if isinstance(exception, RecursionError):
        return "a file of --config-dir, or an override, is nested too deeply to be read; make it flatter"
    if isinstance(exception, ValueError):
        return f"an override cannot be read: {exception}"  # e.g. `=3`
    if isinstance(exception, TypeError):  # e.g. `scheduler=[1,2]`
        return f"an override cannot be read ({exception}); a config group takes the name of one choice, e.g. loss=focal"
    return None


def _function(address: str) -> Callable[[Any], Any]:
    """Return the function at `module:name`; its module is imported only now."""
    module, name = address.split(":")
    function: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return function


def _stop_writing() -> None:
    """Discard the remaining output: its reader (`| head`) has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _name_sweep(rest: list[str], config_name: str) -> tuple[list[str], Path | None]:
    """Return the overrides of a sweep including `out`, and that folder; a sweep of Optuna names its own folder."""
    typed = [overrides.value(item) for item in rest if overrides.key(item) == "out"]
    groups = [item for item in rest if overrides.key(item) in ("sweep", "experiment") and "," not in item]
    cfg = compose(config_name, groups)
    if cfg.get("sweep"):
        others = [item for item in rest if overrides.key(item) != "out"]
        return ([*others, f"sweep.folder={overrides.quote(typed[-1])}"] if typed else others), None
    out = typed[-1] if typed else str(cfg.out)
    return ([*rest] if typed else [*rest, f"out={overrides.quote(out)}"]), Path(out)


def _empty_folders(rest: list[str]) -> frozenset[Path]:
    """Return the empty folders that the user made for results; only the user removes them."""
    folders = {user_path(overrides.value(item)) for item in rest if overrides.key(item) in ("out", "output")}
    return frozenset(folder.resolve() for folder in folders if folder.is_dir() and not any(folder.iterdir()))


def _run_job(
    cfg: DictConfig, function: str, config_name: str, there: frozenset[Path]
) -> tuple[int, float | dict[str, Any] | None]:
    run_folder = Path(HydraConfig.get().runtime.output_dir)
    many = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        own = [
            source.path
            for source in HydraConfig.get().runtime.config_sources
            if source.schema == "file" and "command-line" in source.provider
        ]
        folders.use(own)  # a sweep's job may run in another process
        keys.check(cfg, config_name, HydraConfig.get().overrides.task, own)
        with open_dict(cfg):
            cfg.out = str(run_folder)  # each job of a sweep has its own folder
        validate(cfg, config_name)
        if many and config_name in COMMANDS and COMMANDS[config_name].computes:
            tune_allocator()  # a launcher may have started this process
        with _own_devices(cfg, many):
            result: dict[str, Any] = _function(function)(cfg) or {}
    except KeyboardInterrupt:
        _remove_if_empty(run_folder, there)
        raise
    except Exception as exception:
        line = one_line(exception)
        if line is None:
            raise
        _remove_if_empty(run_folder, there)
        if trial.of_run(run_folder):  # the sweep reports it
            raise
        say_error(line)
        return code_of(exception), None
    code = int(result.get("exit_code", DONE))
    if many and code == INTERRUPTED:  # skip the waiting jobs too
        raise KeyboardInterrupt
    if trial.of_run(run_folder):
        return code, result
    objective = result.get(cfg.get("monitor", ""))
    return code, None if objective is None else float(objective)


def _own_devices(cfg: DictConfig, many: bool) -> AbstractContextManager[Any]:
    """Return a context that gives each of several jobs its own GPUs, whatever launcher started it."""
    if not many or "trainer" not in cfg or HydraConfig.get().runtime.choices.get("hydra/launcher") == "basic":
        return nullcontext()
    return gpus.taken(str(cfg.trainer.accelerator), cfg.trainer.devices)


def _remove_if_empty(folder: Path, there: frozenset[Path]) -> None:
    """Remove a run folder that holds only the records of its start, if no process trains there.

    Args:
        folder: Of the run.
        there: Folders that existed, empty, before the command; they are kept, empty.
    """
    if not folder.is_dir() or Path.cwd().is_relative_to(folder.resolve()):
        return
    made = {path.name for path in folder.iterdir()} - _RECORDS or any(folder.glob("checkpoints/*"))
    if made or resume.is_running(folder):
        return
    for path in [folder] if folder.resolve() not in there else list(folder.iterdir()):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
