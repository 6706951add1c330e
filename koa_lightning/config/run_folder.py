"""To resume a run: find its checkpoint and its original overrides. No heavy imports here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from koa_lightning.config import augment, cluster, recorded_overrides, trusted
from koa_lightning.config.overrides import as_typed, key, names_store, quote, value
from koa_lightning.config.places import replace_text, user_path
from koa_lightning.errors import InputError

DONE_FILE = "done.json"
_LOCK_FILE = ".lock"
_RECORD = Path(".hydra") / "overrides.yaml"
_NO_RECORD = "hydra.output_subdir=null"
# Relative to the folder where they are typed.
_PLACES = {"data.root", "data.table", "data.split_table", "teacher.table", "tracking.uri"}


def with_old_overrides(overrides: list[str]) -> list[str]:
    """Return the overrides of `train ckpt=...`, preceded by those of the run to resume.

    Overrides typed now come last and so win; of the recorded ones only those that `recorded_overrides.check` allows are
    used. Without `ckpt` the overrides stay unchanged. If the folder already holds a run, Hydra must not write its
    record before the checks; `remember` writes it afterwards.

    Raises:
        InputError: There is nothing to resume, or the folder names code that may not run.
    """
    typed = {key(item): value(item) for item in overrides}
    if typed.get("ckpt") in (None, "", "null") and (begun := cluster.begun_before(overrides)):
        overrides = cluster.of_restart(overrides, begun, begun / DONE_FILE)
        typed = {key(item): value(item) for item in overrides}
    if typed.get("ckpt") in (None, "", "null"):
        there = typed.get("out") and (Path(typed["out"]) / _RECORD).exists()
        return [*overrides, _NO_RECORD] if there else overrides
    checkpoint = find(typed["ckpt"], typed.get("out"))
    folder = checkpoint.parent.parent
    if not (folder / _RECORD).is_file():
        raise InputError(
            f"ckpt={typed['ckpt']}: is not in a run folder ({folder / _RECORD} is missing); name RUN/checkpoints/FILE"
        )
    if typed.get("out") and Path(typed["out"]).resolve() != folder.resolve():
        raise InputError(f"out={typed['out']}: a resumed run stays in its folder, {folder}; omit out=")
    new = [item for item in overrides if key(item) not in ("ckpt", "out")]
    augment.check_overrides(f"ckpt={typed['ckpt']}", map(key, _read(folder)))
    record = _usable(folder, typed.get("tracking.uri"))
    old = [item for item in record if not _replaced(item, typed, {key(item): value(item) for item in record})]
    return [
        *recorded_overrides.check(old, str(folder / _RECORD), overrides),
        *new,
        f"ckpt={quote(str(checkpoint))}",
        f"out={quote(str(folder))}",
        _NO_RECORD,
    ]


def _usable(folder: Path, configured: str | None) -> list[str]:
    """Return the overrides of a run folder, possibly somebody else's, without a store that may not be used."""
    file = folder / _RECORD
    items = _read(folder)
    stores = [item for item in items if names_store(item)]
    own = [item for item in stores if key(item) == "tracking.uri" and trusted.is_local_store(value(item))]
    named = [value(item) for item in stores if item not in own and value(item) not in ("", "null")]
    for one in named if configured in (None, "", "null") else ():  # a store typed now wins
        if not trusted.is_same(os.environ.get(trusted.VARIABLE), one):
            print(
                f"{file}: names the store {trusted.shown(one)}, which is neither configured here nor a database on "
                "this machine; not used (tracking.uri=ADDRESS uses it)",
                file=sys.stderr,
            )
    return [item for item in items if item not in stores or item in own]


def find(ckpt: str, out: str | None = None) -> Path:
    """Return the checkpoint file that `ckpt` names; `last` is that of the newest unfinished run.

    Args:
        ckpt: `last`, or a file.
        out: The run folder in which `last` is looked for; None: under outputs/.

    Raises:
        InputError: There is none.
    """
    if ckpt != "last":
        path = user_path(ckpt)
        if not path.is_file():
            raise InputError(f"ckpt={ckpt}: there is no such file; ckpt=last takes the newest unfinished run")
        return path.absolute()
    if out is not None:
        path = user_path(out) / "checkpoints" / "last.ckpt"
        if not path.is_file():
            raise InputError(f"ckpt=last: {path} does not exist; there is nothing to resume")
        return path.absolute()
    runs = sorted(Path("outputs").glob("**/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)
    unfinished = [path for path in runs if not (path.parent.parent / DONE_FILE).exists()]
    waiting = [path for path in unfinished if not is_running(path.parent.parent)]
    if not waiting:
        reason = "no run under outputs/ has a checkpoint"
        if runs:
            reason = "every run under outputs/ has finished" + (" or is running" if unfinished else "")
        raise InputError(f"ckpt=last: {reason}; name a file to resume a finished run")
    return waiting[-1].absolute()


def remember(folder: Path, overrides: Sequence[str] | None = None, config: DictConfig | None = None) -> None:
    """Record the overrides of a run for `with_old_overrides`; from now on it counts as unfinished.

    Args:
        folder: The run folder.
        overrides: None: those of the command line, if any.
        config: The composed config; written beside them if Hydra, which writes it for a new run, was configured not to.
    """
    (folder / DONE_FILE).unlink(missing_ok=True)
    if overrides is None and HydraConfig.initialized():
        overrides = HydraConfig.get().overrides.task
    if overrides is None:  # a calling program keeps its own record
        return
    record = folder / _RECORD
    record.parent.mkdir(parents=True, exist_ok=True)
    if config is not None and HydraConfig.initialized() and HydraConfig.get().output_subdir is None:
        (record.parent / "config.yaml").write_text(OmegaConf.to_yaml(config))
    kept = [_in_full(str(item), config) for item in overrides if key(item) not in ("ckpt", "out")]
    replace_text(record, yaml.safe_dump(kept))
    cluster.remember(folder, overrides)


def _in_full(item: str, config: DictConfig | None) -> str:
    """Return an override with its place, if it names one, in full, as the config now has it."""
    place = OmegaConf.select(config, key(item)) if config is not None and key(item) in _PLACES else None
    return f"{item.partition('=')[0]}={quote(str(place))}" if place else item


def recorded(folder: Path) -> list[str] | None:
    """Return the overrides of a run as typed; None if a program called it."""
    if not (folder / _RECORD).is_file():
        return None
    return [as_typed(item) for item in _read(folder) if key(item) not in ("ckpt", "out")]


def _read(folder: Path) -> list[str]:
    """Return the recorded overrides of a run folder, unchecked."""
    return recorded_overrides.listed(recorded_overrides.in_file(folder / _RECORD), str(folder / _RECORD))


def is_main() -> bool:
    """Tell whether this is the only process of a training, or the first of several (`trainer=ddp`)."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder; the system releases the lock if this one dies.

    Raises:
        InputError: Another process trains there.
    """
    if not is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{folder}: another process is training in this folder; wait for it, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def is_running(folder: Path) -> bool:
    """Tell whether a process is training in a folder."""
    if not (folder / _LOCK_FILE).exists():
        return False
    try:
        with holding(folder):
            return False
    except InputError:
        return True


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every entry of a plain config as `a.b.c` and its value."""
    for name, entry in node.items():
        if isinstance(entry, Mapping):
            yield from flat(entry, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", entry


def _replaced(item: str, typed: dict[str, str], old: dict[str, str]) -> bool:
    """Tell whether an old override is typed again, or belongs to a group whose choice changes now."""
    name = key(item)
    parents = [name[:i] for i, letter in enumerate(name) if letter == "."]
    changed = any(parent in typed and typed[parent] != old.get(parent) for parent in parents)
    return name in typed or name in ("ckpt", "out") or changed
