"""Train a run again and compare: `python -m koa_lightning.reproduce run=ID`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from koa_lightning import DISCLAIMER
from koa_lightning.config import folders, json_files, outcome, overrides, run_files
from koa_lightning.config.compose import compose, plain, validate
from koa_lightning.config.run_folder import DONE_FILE
from koa_lightning.config.typed import name_places
from koa_lightning.data.build import data_module
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.tracking import repeat
from koa_lightning.tracking.facts import run_facts
from koa_lightning.tracking.runs import find_run
from koa_lightning.tracking.store import open_store

if TYPE_CHECKING:
    from koa_lightning.tracking.repeat import Comparison


def reproduce(cfg: DictConfig) -> dict[str, Any]:
    """Rebuild a run's command, say what has changed since, run it, and compare its metrics with the old ones.

    Args:
        cfg: The config `reproduce`, composed.

    Returns:
        `command`, `changed` (name -> [then, now]), and if it was run `run_id`, `n_values`, `n_differing` and
        `exit_code` (1 if a value differs).

    Raises:
        InputError: The run is unknown or was not started by a command, or the store fails.
    """
    validate(cfg)

    store = open_store(cfg.tracking.uri, Path("mlruns"), create=False)
    run = find_run(store, str(cfg.run))
    if run.info.status == "RUNNING":
        raise InputError(f"run={cfg.run}: is still running, or was killed; reproduce a run that has ended")
    more = [str(item) for item in cfg.more]
    old = repeat.overrides_of(run, more)
    items = [*old, *more]
    config = compose("train", overrides.quote_paths(items))
    name_places(config)
    changed = repeat.changed_settings(store.client(), run, plain(config))
    changed |= repeat.changed_facts(run, _facts_now(data_module(config.data, config.seed, quiet=True)))
    own = [f"tracking.uri={cfg.tracking.uri}"] if cfg.tracking.uri else []
    folder = Path(cfg.out)
    command = ["python", "-m", "koa_lightning.train", *folders.flags(), *items, *own, f"out={folder}"]
    print(f"run {run.info.run_name} ({run.info.run_id}) was started by: {shlex.join([*command[:3], *old])}", flush=True)
    if more:
        print(f"now also with: {shlex.join(more)}", flush=True)
    for name, (first, then) in repeat.trained_further(run).items():
        how = f"began with {name}={first} and was resumed with {then}"
        print(f"WARNING: the run {how}; trained in one go, it may differ", flush=True)
    _say_changed(changed, run.data.tags.get("git.dirty") == "true")
    result: dict[str, Any] = {"command": shlex.join(command), "changed": changed}
    if not cfg.run_it:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # Hydra made it
        print(DISCLAIMER)
        return result
    named = f"tracking.run_name={overrides.quote(f'{run.info.run_name} again')}"
    tagged = f"+tracking.tags.reproduces={run.info.run_id}"
    code = run_command([*command[1:], named, tagged, f"quiet={str(cfg.quiet).lower()}"])
    if code != outcome.DONE:
        return {**result, "exit_code": code}
    new = find_run(store, json_files.read(folder / DONE_FILE, run_files.OF_RUN)["run_id"])
    compared = repeat.compare_metrics(store.client(), run, new)
    _say_compared(compared)
    differs = compared.n_differing > 0 or compared.n_values == 0
    numbers = {"n_values": compared.n_values, "n_differing": compared.n_differing}
    return {**result, **numbers, "run_id": new.info.run_id, "exit_code": outcome.PARTLY if differs else outcome.DONE}


def run_command(arguments: list[str]) -> int:
    """Run Python with these arguments in a process of its own; return its exit code.

    Raises:
        KeyboardInterrupt: On Ctrl-C, which reaches the process too; it ends first, and says how to continue.
    """
    process = subprocess.Popen([sys.executable, *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise


def _facts_now(data: KneeDataModule) -> dict[str, str]:
    """Return the current facts of code, machine and data; the data is read as for training."""
    data.prepare(("train", "val"))
    return {**run_facts(), "data.fingerprint": data.fingerprint, "split": data.split_name}


def _say_changed(changed: dict[str, tuple[str, str]], was_dirty: bool) -> None:
    if was_dirty:
        print("WARNING: the code of the run differed from its commit (git.dirty); the difference is not known")
    if not changed:
        print("nothing has changed since: settings, data, commit, versions, machine", flush=True)
        return
    print("what has changed since:", flush=True)
    shown = Table()
    for column in ("what", "then", "now"):
        shown.add_column(column, overflow="fold")
    for name, (then, now) in changed.items():
        shown.add_row(escape(name), escape(then), escape(now))
    Console().print(shown)


def _say_compared(compared: Comparison) -> None:
    shown = Table(title="best epoch")
    for column in ("metric", "then", "now", "difference"):
        shown.add_column(column, justify="left" if column == "metric" else "right")
    for name, then, now in compared.rows:
        same = then == now or (then != then and now != now)
        shown.add_row(name, f"{then:.6f}", f"{now:.6f}", "equal" if same else f"[bold red]{now - then:+.2e}[/]")
    Console().print(shown)
    if compared.n_values == 0:
        print("the run has no metrics to compare with")
    elif compared.n_differing == 0:
        print(f"REPRODUCED: all {compared.n_values} values of all epochs are equal")
    else:
        gap, where = compared.largest
        how = f"by up to {gap:.3g}" if gap < float("inf") else "some are missing in one run or not a number"
        print(f"DIFFERS: {compared.n_differing} of {compared.n_values} values, {how} ({where})")
    print(DISCLAIMER, flush=True)
