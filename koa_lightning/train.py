"""Train a network that grades knees: `python -m koa_lightning.train model=effb3 loss=focal`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from koa_lightning import cli, resume, speed
from koa_lightning.config import plain, validate
from koa_lightning.errors import InputError

if TYPE_CHECKING:
    import lightning as L

    from koa_lightning.callbacks import History
    from koa_lightning.checkpoint import Checkpoint
    from koa_lightning.data.datamodule import KneeDataModule
    from koa_lightning.models.grader import KneeGrader


def train(cfg: DictConfig) -> dict[str, Any]:
    """Train, track and explain one run.

    Args:
        cfg: The config `train`, composed.

    Returns:
        The best epoch's metrics by name (`val/quadratic_kappa`, ...), `best_epoch`, `checkpoint` (path), `run_id`, and
        `exit_code` (130 where the run was interrupted).

    Raises:
        InputError: Whatever the user can put right.
    """
    validate(cfg)
    speed.tune_allocator()  # before torch is imported
    import lightning as L

    from koa_lightning import assemble, checkpoint, finish
    from koa_lightning.tracking.begin import describe, open_run

    folder = Path(cfg.out)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    resumed = checkpoint.read(cfg.ckpt) if cfg.ckpt else None
    L.seed_everything(cfg.seed, verbose=False)
    data = assemble.data_module(cfg.data, cfg.seed, cfg.quiet).prepare(("train", "val"), folder / "manifest.parquet")
    _check_resumed(cfg, resumed, data)
    _hush()
    module, plan = assemble.grader(cfg, data, resumed)
    before = resumed.record["tracking"] if resumed else {}
    run = open_run(cfg.tracking, folder, assemble.run_name(cfg), before.get("run_id") or None, before.get("uri"))
    module.record["tracking"] = {"uri": run.uri, "run_id": run.run_id}
    _banner(cfg, module, plan.precision, plan.reason)
    status = "FAILED"
    try:
        trainer, history = _trainer(cfg, folder, data, run, plan.lightning)
        source = str(cfg.data.get("table") or cfg.data.get("root") or cfg.data.name)
        device = trainer.strategy.root_device.type
        if device == "cpu" and cfg.trainer.accelerator == "auto":
            print("WARNING: no GPU found, training on the CPU (trainer=cpu says so without this line)", file=sys.stderr)
        describe(run, plain(cfg), module.record, source, device)
        status = _fit(trainer, module, data, resumed)
        return finish.finish(cfg, folder, module, data, history, run, status)
    finally:
        run.close(status)


def _trainer(
    cfg: DictConfig, folder: Path, data: KneeDataModule, run: Any, precision: str
) -> tuple[L.Trainer, History]:
    from hydra.utils import instantiate
    from lightning.pytorch.callbacks import RichProgressBar

    from koa_lightning import callbacks as cb
    from koa_lightning import finish
    from koa_lightning.tracking.logger import MlflowLogger

    history = cb.History(folder / "history.csv")
    callbacks: list[Any] = []
    if cfg.explain.enabled and cfg.explain.every_n_epochs:
        draw = finish.panel_drawer(cfg, folder, data, run)
        callbacks.append(cb.EveryNEpochs(cfg.explain.every_n_epochs, draw))
    callbacks += [instantiate(entry) for entry in cfg.callbacks.values() if entry is not None]
    callbacks += [history, cb.Checkpoints(folder / "checkpoints", cfg.monitor, cfg.mode)]
    callbacks.append(cb.OneLineAnEpoch(cfg.monitor) if cfg.quiet else RichProgressBar())
    trainer = instantiate(
        {key: value for key, value in plain(cfg.trainer).items() if key != "channels_last"},
        precision=precision,
        callbacks=callbacks,
        logger=[MlflowLogger(run)],
        num_sanity_val_steps=0,
        enable_progress_bar=not cfg.quiet,
        enable_model_summary=False,
        log_every_n_steps=1_000_000,  # metrics are logged by epoch
        default_root_dir=str(folder),
        _convert_="object",
    )
    return trainer, history


def _fit(trainer: L.Trainer, module: KneeGrader, data: KneeDataModule, resumed: Checkpoint | None) -> str:
    """Train; return MLflow's word for how it ended."""
    import signal

    interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, data, ckpt_path=str(resumed.path) if resumed else None, weights_only=True)
    except SystemExit:  # Lightning's way out of Ctrl-C
        if not trainer.interrupted:
            raise
        return "KILLED"
    finally:
        signal.signal(signal.SIGINT, interrupt)  # Lightning leaves it ignored
    return "FINISHED"


def _check_resumed(cfg: DictConfig, resumed: Checkpoint | None, data: KneeDataModule) -> None:
    if resumed is None:
        return
    then, now = resumed.record["data"]["fingerprint"], data.fingerprint
    if then != now:
        raise InputError(f"ckpt={cfg.ckpt}: it was trained on data {then}, and this is {now}; resume on the same data")
    if resumed.epochs_done >= cfg.trainer.max_epochs:
        raise InputError(
            f"ckpt={cfg.ckpt}: all {resumed.epochs_done} epochs are done; raise trainer.max_epochs to train longer"
        )
    then_net, now_name = resumed.record["net"]["name"], cfg.model.name
    if then_net != now_name:
        raise InputError(f"ckpt={cfg.ckpt}: it holds {then_net}, but model.name={now_name}; type the same model=...")


def _hush() -> None:
    """Turn off what Lightning says about itself at every start; its warnings of other kinds stay."""
    import logging
    import warnings

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (".*smaller than the logging interval.*", ".*does not have many workers.*", ".*LeafSpec.*"):
        warnings.filterwarnings("ignore", message)


def _banner(cfg: DictConfig, module: KneeGrader, precision: str, reason: str) -> None:
    """Say once, loudly, what this run is not."""
    record = module.record
    for mark in record["marks"]:
        why = f" ({record['weights_reason']})" if mark == "untrained weights" and "weights_reason" in record else ""
        print(f"WARNING: {mark}{why}; every figure and the run carry this mark", file=sys.stderr)
    counts = ", ".join(f"{part} {sum(n)}" for part, n in record["data"]["counts"].items())
    print(
        f"{cfg.model.name} ({record['weights']} weights) on {record['data']['name']}: {counts} knees, "
        f"{cfg.data.image_size} px, {precision} ({reason})",
        flush=True,
    )


def main() -> None:
    """Entry point of `koa-train` and `python -m koa_lightning.train`."""
    cli.launch("train", "koa_lightning.train:train", before=resume.with_old_overrides)


if __name__ == "__main__":
    main()
