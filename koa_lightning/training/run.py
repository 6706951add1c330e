"""Train a network that grades knees: `python -m koa_lightning.train model=effb3 loss=focal`."""

from __future__ import annotations

import functools
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint import reading
from koa_lightning.checkpoint.record import CheckpointRecord, TrackedRun
from koa_lightning.config import run_folder, trial
from koa_lightning.config.compose import plain, validate
from koa_lightning.config.figures import configured
from koa_lightning.config.instantiate import made
from koa_lightning.config.typed import name_places
from koa_lightning.data.build import data_module, source_of
from koa_lightning.data.gray import one_line
from koa_lightning.errors import InputError
from koa_lightning.explain import cam
from koa_lightning.models.weights import tensors_of
from koa_lightning.tracking.begin import check_server, describe, open_run
from koa_lightning.tracking.logger import MlflowLogger
from koa_lightning.training import after_fit, build, callbacks, devices, joint_norm, ranks, resuming, state, untrained
from koa_lightning.training.module import check_metric

if TYPE_CHECKING:
    from koa_lightning.checkpoint.reading import Checkpoint
    from koa_lightning.data.datamodule import KneeDataModule
    from koa_lightning.training.callbacks import History
    from koa_lightning.training.module import KneeGrader


_NOT_LIGHTNINGS = ("channels_last", "compile", "limit_epochs", "strategy", "sync_batchnorm")


class Reporter(Protocol):
    """A Lightning callback that knows whether its trial was pruned."""

    pruned: bool


@configured
def train(cfg: DictConfig, reporter: Callable[[Path], Reporter] | None = None) -> dict[str, Any]:
    """Train, track and explain one run.

    Args:
        cfg: The config `train`, composed.
        reporter: Makes the callback of a job of a sweep that reports to it, given the run folder; None outside a sweep.

    Returns:
        The best epoch's metrics by name (`val/quadratic_kappa`, ...), `best_epoch`, `checkpoint` (path), `run_id`, and
        `exit_code` (130 if the run was interrupted).

    Raises:
        InputError: A problem that the user can fix.
    """
    validate(cfg)
    name_places(cfg)
    if cfg.trainer.get("limit_epochs"):
        cfg.trainer.max_epochs = min(cfg.trainer.max_epochs, cfg.trainer.limit_epochs)
    folder = Path(cfg.out)
    manifest = folder / "manifest.part"  # until all checks pass: the folder may hold that of another run
    with run_folder.holding(folder):
        try:
            return _train(cfg, folder, manifest, reporter)
        finally:
            if run_folder.is_main():
                manifest.unlink(missing_ok=True)


def _train(
    cfg: DictConfig, folder: Path, manifest: Path, reporter: Callable[[Path], Reporter] | None
) -> dict[str, Any]:
    build.check_device(cfg.trainer.accelerator)
    n_devices = devices.count(cfg.trainer.accelerator, cfg.trainer.devices)
    devices.check_task(n_devices)
    resumed = reading.read(cfg.ckpt) if cfg.ckpt else None
    if resumed:
        resumed.check_is_of_training("from which no run can resume")
    weights = build.first_weights(cfg, resumed)
    typed = untrained.typed(folder) if weights.untrained else None
    instead = "" if typed is None else untrained.adapt(cfg, typed, resumed.record.config if resumed else None)
    if resumed is not None:
        record = resumed.record
        resuming.check_settings(
            cfg,
            folder,
            resumed.epochs_done,
            network=record.net.name,
            loss=record.loss,
            config=record.config,
            made_of=record.made_of or {},
        )
    else:
        resuming.check_free(folder)
    check_server(cfg.tracking, resumed.record.tracking.uri if resumed else None)  # before long work
    L.seed_everything(cfg.seed, verbose=False)
    data = data_module(cfg.data, cfg.seed, cfg.quiet)
    data.prepare(("train", "val"), manifest if run_folder.is_main() else None)
    if resumed is not None:
        resuming.check_data(cfg, resumed.record.data.fingerprint, data.fingerprint)
    _hush()
    if typed is not None and resumed is None:
        instead = " ".join(filter(None, [instead, untrained.lengthen(cfg, typed, build.steps(cfg, data, n_devices))]))
    module, plan = build.grader(cfg, data, resumed, n_devices, weights)
    if cfg.explain.enabled:
        cam.check(module.net, cfg.data.image_size, "explain=none", **cam.asked(cfg.explain, module.net))
    if cfg.callbacks.get("early_stopping"):
        check_metric(str(cfg.callbacks.early_stopping.monitor), "callbacks.early_stopping.monitor")
    history = callbacks.History(folder / "history.csv", cfg.monitor, cfg.mode)
    report = reporter(folder) if reporter else None
    before = resumed.record.tracking if resumed else TrackedRun()
    run = open_run(cfg.tracking, folder, build.run_name(cfg), before.run_id or None, before.uri)
    module.record = replace(module.record, tracking=TrackedRun(run.uri, run.run_id) if run.run_id else before)
    status, result = "FAILED", {}
    try:
        if run_folder.is_main():  # the other processes would write the same files
            run_folder.remember(folder, config=cfg)
            manifest.replace(folder / "manifest.parquet")
            if resumed is None:  # of an earlier run in this folder, which can no longer continue
                (folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
            _say_start(module.record, f"{plan.precision} ({plan.reason})", instead)
            if resumed is not None:
                print(f"resuming {folder} after {resumed.epochs_done} of {cfg.trainer.max_epochs} epochs", flush=True)
        trainer = _trainer(cfg, folder, data, run, history, plan.lightning, n_devices)
        if report is not None:
            trainer.callbacks.append(report)  # type: ignore[attr-defined]
        kind = trainer.strategy.root_device.type
        if kind == "cpu" and (watch := build.speed_watch(cfg, plan)):
            trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        if kind == "cpu" and cfg.trainer.accelerator == "auto":
            line = "WARNING: no GPU found, training on the CPU (type trainer=cpu to omit this line)"
            trial.say_once(line, warning=True)
        describe(run, plain(cfg), module.record, source_of(cfg.data), kind)
        if said := build.compile_it(cfg, module, plan, trainer.strategy.root_device):
            run.log_tags({"compile": said})
        closing = functools.partial(run.close, "FAILED")
        along = functools.partial(ranks.begin, n_devices, cfg, plan.precision, reporter, folder, closing)
        with ranks.together(n_devices, along):
            ending = _fit(trainer, module, data, resumed)
            if ending == "KILLED":
                raise KeyboardInterrupt  # the other processes wait for a step that will not come
        if not run_folder.is_main():  # the first process does the rest
            return history.best()
        joint_norm.separate(module.net)
        if ending == "FINISHED":
            if report is not None and report.pruned:
                result = after_fit.pruned(folder, module, history, run)
            else:
                result = after_fit.finish(cfg, folder, module, data, history, run)
        status = ending
    except KeyboardInterrupt:
        status = "KILLED"
    except Exception as error:
        run.log_tags(trial.error_tags(error))
        raise
    finally:
        try:
            if status == "KILLED":
                after_fit.keep(folder, module, history, run)
        finally:  # the disk may be full
            status = _close(run, status)
    if status == "KILLED":
        return after_fit.interrupted(folder, history, run)
    return after_fit.conclude(folder, cfg.monitor, cfg.tracking.uri, result)


def train_along(task: Mapping[str, Any]) -> None:
    """Train together with the first process, in a further one that stores nothing.

    Args:
        task: From `ranks.begin`.
    """
    cfg = OmegaConf.create(task["config"])
    _train(cfg, Path(cfg.out), Path(cfg.out), task["reporter"])


def _close(run: Any, status: str) -> str:
    """End the run in the store; return `KILLED` where that was interrupted, else its status."""
    try:
        run.close(status)
    except KeyboardInterrupt:  # unsent data waits in a file
        return "KILLED"
    return status


def _trainer(
    cfg: DictConfig,
    folder: Path,
    data: KneeDataModule,
    run: Any,
    history: History,
    precision: str,
    n_devices: int = 1,
) -> L.Trainer:
    attached: list[Any] = []
    if cfg.explain.enabled and cfg.explain.every_n_epochs:
        draw = after_fit.panel_drawer(cfg.explain, folder, data, run)
        attached.append(callbacks.EveryNEpochs(cfg.explain.every_n_epochs, draw))
    attached += [made(entry, f"callbacks.{key}") for key, entry in cfg.callbacks.items() if entry is not None]
    attached += [history, callbacks.Checkpoints(folder / "checkpoints", cfg.monitor, cfg.mode)]
    shown = callbacks.progress(cfg.monitor, cfg.quiet)
    attached += [shown, callbacks.EndBetweenBatches()]
    opt = cfg.optimizer
    frozen = bool(opt.head_only_epochs or opt.unfreeze_every or opt.frozen_stages)
    return made(
        {key: value for key, value in plain(cfg.trainer).items() if key not in _NOT_LIGHTNINGS},
        "trainer",
        **devices.strategy(n_devices, cfg.trainer.strategy, frozen),
        precision=precision,
        callbacks=attached,
        logger=[MlflowLogger(run)],
        num_sanity_val_steps=0,
        enable_progress_bar=isinstance(shown, ProgressBar),
        enable_model_summary=False,
        log_every_n_steps=1_000_000,  # metrics are logged by epoch
        default_root_dir=str(folder),
        _convert_="object",
    )


def _fit(trainer: L.Trainer, module: KneeGrader, data: KneeDataModule, resumed: Checkpoint | None) -> str:
    """Train; return MLflow's status for how it ended."""
    if resumed is not None:
        state.check(resumed.path, tensors_of(resumed.path), module, trainer)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with _taking_over(trainer, resumed):
            trainer.fit(module, data, ckpt_path=str(resumed.path) if resumed else None, weights_only=True)
    except SystemExit:  # Lightning's way out of Ctrl-C
        if not trainer.interrupted:
            raise
        return "KILLED"
    except MisconfigurationException as error:
        raise InputError(f"trainer: {one_line(error)}") from error
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"data.batch_size={data.batch_size}: batch normalisation needs more than one value per channel, but a "
            f"batch of one knee at {data.preprocessing.image_size} px has one; raise data.batch_size or data.image_size"
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)  # Lightning leaves it ignored
    return "FINISHED"


@contextmanager
def _taking_over(trainer: L.Trainer, resumed: Checkpoint | None) -> Iterator[None]:
    """Turn an error before a resumed training begins into one line: until then, only its checkpoint is read."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        begun = any(each.begun for each in trainer.callbacks if isinstance(each, callbacks.Checkpoints))  # type: ignore[attr-defined]
        if resumed is None or begun or trial.kind_of(error) == "out_of_memory":
            raise
        raise InputError(
            f"ckpt={resumed.path}: damaged, or changed by another program ({one_line(error)}); no run can "
            "resume from it: give another, or start a new run"
        ) from error


def _hush() -> None:
    """Silence Lightning's messages about itself at every start; its other warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*smaller than the logging interval.*",
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*sync_dist=True.*",  # torchmetrics has already combined the devices by then
    ):
        warnings.filterwarnings("ignore", message)


def _say_start(record: CheckpointRecord, precision: str, instead: str) -> None:
    """Print the caveats of the run as warnings, then what it is, and the settings it uses without initial weights."""
    for caveat in record.caveats:
        why = f" ({record.weights_reason})" if caveat == "no pretrained weights" and record.weights_reason else ""
        trial.say_once(f"WARNING: {caveat}{why}; every figure and the run carry this caveat", warning=True)
    counts = ", ".join(f"{split} {sum(n)}" for split, n in record.data.counts.items())
    trial.say_once(
        f"{record.net.name} ({record.weights} weights) on {record.data.name}: {counts} knees, "
        f"{record.preprocessing.image_size} px, {precision}"
    )
    if instead:
        trial.say_once(f"no initial weights, so it uses {instead} (typed settings stay; untrained=null turns this off)")
