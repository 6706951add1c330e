"""Does training work on the GPU of this machine? One table, and `results/gpu.json`, in at most 6 minutes.

    python -m benchmarks.gpu [--model tf_efficientnet_b3] [--batch 64] [--side 224] [--seconds 330]

It needs a source tree with its dependencies, and an installed torch (2.9 or newer). Without a GPU it runs on the CPU
with tiny sizes and says so: it then shows that the checks work, not that a GPU does. Phantoms only, no weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from koa_lightning.config.compose import compose
from koa_lightning.config.overrides import quote
from koa_lightning.data.build import data_module
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.explain.cam import heat_maps
from koa_lightning.models.inference import grade_logits
from koa_lightning.training import build, compiling, devices
from koa_lightning.training.callbacks import Checkpoints
from koa_lightning.training.ema import WarmEMA
from koa_lightning.training.module import KneeGrader

RESULT = Path(__file__).parent / "results" / "gpu.json"
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
TINY = {"model": "test_efficientnet", "batch": 8, "side": 64, "patients": 40, "epochs": 2}
FULL = {"model": "tf_efficientnet_b3", "batch": 64, "side": 224, "patients": 1500, "epochs": 3}
GOAL = ">= 0.9" if CUDA else ""  # the speed at tiny sizes means nothing
Row = dict[str, Any]


def settled(sizes: dict[str, Any], folder: Path, *more: str) -> DictConfig:
    """Return the config of a training on phantoms."""
    common = [
        f"data.source.n_patients={sizes['patients']}", f"data.batch_size={sizes['batch']}",
        f"data.image_size={sizes['side']}", f"data.cache_dir={quote(str(folder))}", "model.weights=none",
        f"model.name={sizes['model']}", f"trainer.max_epochs={sizes['epochs']}", "quiet=true",
        f"trainer.precision={'bf16' if CUDA and torch.cuda.is_bf16_supported() else 'fp32'}",
    ]  # fmt: skip
    return compose("train", [*common, *more])


def prepared(cfg: DictConfig) -> tuple[KneeGrader, Any, KneeDataModule]:
    """Return module, plan and data as `train` builds them."""
    L.seed_everything(0, verbose=False)
    data = data_module(cfg.data, cfg.seed, quiet=True).prepare(("train", "val"))
    return *build.grader(cfg, data, None), data


class Clock(Callback):
    """Times the epochs after the first; on a GPU also its own time of each step, and whether the host waits in one."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict and CUDA
        self.images, self.seconds, self.busy, self.start = 0, 0.0, 0.0, 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        if CUDA:
            torch.cuda.synchronize()
        self.start = time.perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Mark the start of a step in the GPU's queue; from here on nothing may wait."""
        if CUDA:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            self.events.append((begin, end))
        if self.strict and trainer.current_epoch and not trainer.is_last_batch:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Mark its end; after the last one, stop the clock."""
        if self.strict:
            torch.cuda.set_sync_debug_mode("default")
        if CUDA:
            self.events[-1][1].record()
        if trainer.current_epoch:
            self.images += len(batch["grade"])
        if not trainer.is_last_batch:
            return
        if CUDA:
            torch.cuda.synchronize()
        if trainer.current_epoch:
            self.seconds += time.perf_counter() - self.start
            self.busy += sum(begin.elapsed_time(end) for begin, end in self.events) / 1000
        self.events.clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Let the host wait again."""
        if CUDA:
            torch.cuda.set_sync_debug_mode("default")


def fitted(cfg: DictConfig, folder: Path, device: str, *callbacks: Callback) -> tuple[L.Trainer, KneeGrader]:
    """Train as a user does, without tracking and figures."""
    module, plan, data = prepared(cfg)
    trainer = L.Trainer(
        accelerator=device, devices=1, max_epochs=cfg.trainer.max_epochs, precision=plan.lightning,
        callbacks=[WarmEMA(), Checkpoints(folder / "checkpoints", cfg.monitor, cfg.mode), *callbacks], logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, default_root_dir=str(folder),
        log_every_n_steps=1_000_000, gradient_clip_val=cfg.trainer.gradient_clip_val,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module


def bare(cfg: DictConfig) -> float:
    """Return the images per second of a plain loop over one batch on the device: nothing is loaded."""
    module, plan, data = prepared(cfg)
    module = module.to(DEVICE).train()
    batch = {name: value.to(DEVICE) for name, value in next(iter(data.train_dataloader())).items()}
    optimizer = module.configure_optimizers()["optimizer"]

    def step() -> None:
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=plan.precision.startswith("bf16")):
            image = module.augment(batch["image"])
            loss = module.loss(module.net(module.net.normalise(image)), batch["grade"])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()

    n = 30 if CUDA else 5
    for count in (3, n):
        if CUDA:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            step()
        if CUDA:
            torch.cuda.synchronize()
    return n * cfg.data.batch_size / (time.perf_counter() - start)


def speed(sizes: dict[str, Any], folder: Path) -> list[Row]:
    """Images per second, share of time that the device waits, peak memory; with and without the knees on the device."""
    plain, rows = bare(settled(sizes, folder)), list[Row]()
    for where in ("never", "always"):
        clock = Clock(strict=False)
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        fitted(settled(sizes, folder, f"data.on_device={where}"), folder, DEVICE.type, clock)
        ours = clock.images / clock.seconds
        idle = f"{max(0.0, 1 - clock.busy / clock.seconds):.1%}" if CUDA else "not known on a CPU"
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if CUDA else "not known on a CPU"
        detail = f"{ours:,.0f} img/s, bare loop {plain:,.0f}; the device waits {idle}; peak memory {peak}"
        rows.append({"name": f"speed, data.on_device={where}", "value": ours / plain, "goal": GOAL, "detail": detail})
    return rows


def waiting(sizes: dict[str, Any], folder: Path) -> list[Row]:
    """Train an epoch in which a step that makes the host wait for the GPU is an error; also with mixing."""
    if not CUDA:
        return [{"name": "no host sync in a step", "value": None, "goal": "none", "detail": "needs a GPU"}]
    rows = []
    for more in ((), ("mix=mixup", "mix.cutmix=1.0"), ("augment=strong",)):
        try:
            fitted(
                settled(sizes, folder, "trainer.max_epochs=2", "data.on_device=always", *more),
                folder,
                "cuda",
                Clock(True),
            )
            wrong = ""
        except RuntimeError as error:
            wrong = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        name = " ".join(["no host sync in a step", *more])
        rows.append({"name": name, "value": float(bool(wrong)), "goal": "== 0", "detail": wrong or "none in an epoch"})
    return rows


def parity(sizes: dict[str, Any], folder: Path) -> list[Row]:
    """One epoch's loss, the logits and the heat maps, against the CPU's, in fp32."""
    small = {**sizes, "patients": min(sizes["patients"], 60), "batch": min(sizes["batch"], 16), "epochs": 1}
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        cfg = settled(small, folder, "trainer.precision=fp32", "model.drop_rate=0", "model.drop_path_rate=0")
        losses, nets = [], []
        for device in ("cpu", DEVICE.type):
            trainer, module = fitted(cfg, folder, device)
            losses.append(float(trainer.callback_metrics["train/loss"]))
            nets.append(module.net.eval())
        image = next(iter(prepared(cfg)[2].val_dataloader()))["image"][:16]
        first = nets[0].cpu()
        ours = [each.cpu() for each in _graded(first.to(DEVICE), image.to(DEVICE))]
        theirs = _graded(first.cpu(), image)
        far = [float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    return [
        {"name": "loss of an epoch, relative to the CPU's", "value": abs(losses[1] / losses[0] - 1), "goal": "<= 0.01",
         "detail": f"{losses[1]:.5f} and {losses[0]:.5f}"},
        {"name": "logits as eval computes them", "value": far[0], "goal": "<= 0.001", "detail": "largest difference"},
        {"name": "Grad-CAM", "value": far[1], "goal": "<= 0.01", "detail": "largest difference of a pixel, in [0, 1]"},
    ]  # fmt: skip


def _graded(net: Any, image: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        logits = grade_logits(net, image)
    return [logits, torch.from_numpy(np.asarray(heat_maps(net, net.normalise(image), [2] * len(image))))]


def compiler(sizes: dict[str, Any], folder: Path) -> list[Row]:
    """Cost and gain of torch.compile; on the CPU this check alone would take longer than all others."""
    if not CUDA:
        return [{"name": "torch.compile", "value": None, "goal": "> 1", "detail": "needs a GPU"}]
    cfg = settled(sizes, folder)
    module, plan, _ = prepared(cfg)
    found = compiling.timed(module.net, "default", plan, sizes["batch"], sizes["side"], DEVICE)
    row = {"name": "torch.compile, gain of a step", "value": found.before / found.after, "goal": "> 1"}
    return [{**row, "detail": found.words(module.total_steps)}]


CHECKS: tuple[Callable[[dict[str, Any], Path], list[Row]], ...] = (parity, waiting, speed, compiler)


def met(row: Row) -> bool | None:
    """Tell whether a goal is met; None if nothing was computed."""
    word, _, number = row["goal"].partition(" ")
    if row["value"] is None or not number:
        return None
    value, goal = row["value"], float(number)
    return {">=": value >= goal, "<=": value <= goal, "==": value == goal, ">": value > goal}[word]


def table(rows: list[Row]) -> str:
    """Return the rows as a table of Markdown."""
    lines = ["| check | value | goal | met | detail |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:.4g}"
        said = {True: "yes", False: "NO", None: "no goal" if row["value"] is not None else "not run"}[met(row)]
        lines.append(f"| {row['name']} | {value} | {row['goal']} | {said} | {row['detail']} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run all checks within the time; print the table and write the JSON. Return 1 if a goal is missed."""
    sizes = dict(FULL if CUDA else TINY)
    parser = argparse.ArgumentParser(description="Does training work on the GPU of this machine?")
    for name in ("model", "batch", "side", "patients", "epochs"):
        parser.add_argument(f"--{name}", type=type(sizes[name]), default=sizes[name])
    parser.add_argument("--seconds", type=float, default=330.0, help="after which no further check starts")
    parser.add_argument("--out", type=Path, default=RESULT, help="the JSON")
    typed = vars(parser.parse_args(arguments))
    seconds, out = typed.pop("seconds"), typed.pop("out")
    card = torch.cuda.get_device_name() if CUDA else "no GPU, so tiny sizes on the CPU"
    print(f"{card}, torch {torch.__version__}: {typed}", flush=True)
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    start, rows = time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        for check in CHECKS:
            if time.monotonic() - start > seconds:
                rows.append(
                    {"name": check.__name__, "value": None, "goal": "", "detail": f"the {seconds:g} s were over"}
                )
                continue
            rows += check(typed, Path(folder))
            print(f"{check.__name__}: {time.monotonic() - start:.0f} s since the start", flush=True)
    print(table(rows))
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"card": card, "torch": torch.__version__, "sizes": typed, "cores": devices.cores()}
    out.write_text(json.dumps({**facts, "rows": [{**row, "met": met(row)} for row in rows]}, indent=1))
    return int(any(met(row) is False for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
