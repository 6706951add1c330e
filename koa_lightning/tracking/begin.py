"""Start a tracked run: open the store, start or resume the run, and log what it is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from koa_lightning.checkpoint.record import CheckpointRecord
from koa_lightning.config import trial, trusted
from koa_lightning.config.addresses import public, without_passwords
from koa_lightning.config.run_folder import is_main, recorded
from koa_lightning.data.audit.findings import LEAKY
from koa_lightning.tracking.none import NoRun

COMMAND_TAG = "command"
"""Tag of a run: the shell command that repeats it."""
TRAIN = ("python", "-m", "koa_lightning.train")
Tracked = Any  # MlflowRun | NoRun; MLflow takes seconds to import, and tracking=none must not pay for it


def open_run(
    cfg: DictConfig,
    folder: Path,
    name: str,
    run_id: str | None = None,
    uri: str | None = None,
    attach: bool = False,
) -> Tracked:
    """Start the run of a config, or resume one.

    Args:
        cfg: The section `tracking` of a config.
        folder: The run folder, which keeps entries that cannot be delivered.
        name: Name of the run if the config gives none.
        run_id: The run to resume.
        uri: The store that a file names for that run; used if the config names none and `trusted.place` allows it.
        attach: Only add to the run `run_id`, as `eval` does; if the store lacks it, start a new one.

    Raises:
        InputError: The store cannot be reached or written.
    """
    if not cfg.enabled or not is_main():
        return NoRun()
    from koa_lightning.tracking.facts import run_facts
    from koa_lightning.tracking.run import start_run
    from koa_lightning.tracking.store import failing_as_input_error, open_store

    where = trusted.place(cfg.uri, uri)
    store = open_store(where.uri, Path("mlruns"))
    unsure = attach or where.refused or not trusted.is_run_id(run_id)
    with failing_as_input_error(f"run {trusted.shown(run_id)} in {store.name}"):
        missing = bool(run_id and unsure and not store.has_run(run_id))
    if missing or where.refused:
        _say_elsewhere(store.name, uri if where.refused else None, run_id if missing else None)
    run_id = None if missing else run_id
    if attach and run_id:
        return start_run(store, cfg.experiment, None, folder, run_id=run_id, attach=True)
    tags = run_facts() | trial.tags(folder) | {str(key): str(value) for key, value in cfg.tags.items()}
    return start_run(
        store,
        cfg.experiment,
        None if run_id else cfg.run_name or name,
        folder,
        run_id=run_id,
        tags=tags,
        parent=cfg.get("parent"),
        system_metrics=cfg.system_metrics and not attach,
    )


def check_server(cfg: DictConfig, uri: str | None = None) -> None:
    """Check that the server answers, if the runs go to one.

    Args:
        cfg: The section `tracking` of a config.
        uri: As for `open_run`.

    Raises:
        InputError: It does not answer.
    """
    place = trusted.place(cfg.uri, uri).uri or ""
    if cfg.enabled and is_main() and place.startswith(("http://", "https://")):
        from koa_lightning.tracking.store import check_server

        check_server(place)


def _say_elsewhere(store: str, refused: str | None, missing: str | None) -> None:
    """Print in one line why a run does not resume in the store that a file names."""
    reasons = []
    if refused is not None:
        reasons.append(
            f"{trusted.shown(refused)}, the store that a file names, is neither configured here nor a database on "
            "this machine (tracking.uri=ADDRESS uses it)"
        )
    if missing is not None:
        reasons.append(f"the run that trained this, {trusted.shown(missing)}, is not in {store}")
    print(f"{'; '.join(reasons)}; logging to {'a new run' if missing else store}", file=sys.stderr)


@contextmanager
def closing(run: Any) -> Iterator[None]:
    """Close a run after the block: as finished, or as failed if an error ends it."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    finally:
        run.close(status)


def caveat_tags(caveats: Sequence[str]) -> dict[str, str]:
    """Return the tags with a run's caveats; leakage has a tag of its own, to filter by."""
    return {"marks": ", ".join(caveats) or "none", **({LEAKY: "true"} if LEAKY in caveats else {})}


def describe(run: Tracked, settings: Mapping[str, Any], record: CheckpointRecord, source: str, device: str) -> None:
    """Log what a training run is: parameters, tags, data set, and the resolved config as a file.

    Args:
        run: The run.
        settings: The whole config, resolved, plain.
        record: The record stored in its checkpoints.
        source: Where the images lie.
        device: The device that computes, e.g. cpu.
    """
    settings = without_passwords(settings)  # a run is open to more people than its server's password
    run.log_params(settings)
    run.log_text(yaml.safe_dump(dict(settings), sort_keys=False), "config.yaml")
    data = record.data
    typed = recorded(Path(settings["out"])) if "out" in settings else None
    if typed is not None:
        run.log_tags({COMMAND_TAG: shlex.join([*TRAIN, *map(public, typed)])})
    run.log_tags(
        {
            "data": data.name,
            "data.fingerprint": data.fingerprint,
            "split": data.split or "unknown",  # a run from before the split was recorded
            "weights": record.weights,
            **caveat_tags(record.caveats),
            "device": device,
            "precision": record.plan.precision,
            "precision.reason": record.plan.reason,
            "seed": settings["seed"],
        }
    )
    profile = {f"{split} grade {g}": n for split, counts in data.counts.items() for g, n in enumerate(counts)}
    run.log_dataset(data.name, data.fingerprint, source, profile, "training")
