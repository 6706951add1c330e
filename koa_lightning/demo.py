"""The demo: train on phantoms, evaluate, and print where the results are (`make demo`)."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from koa_lightning import DISCLAIMER
from koa_lightning.config import outcome, run_folder, signals
from koa_lightning.config.allocator import tune_allocator
from koa_lightning.config.compose import compose

RUN = "outputs/demo"


def demo(overrides: list[str]) -> dict[str, object]:
    """Train the experiment `demo`, evaluate its best checkpoint on the test split, and print a closing table.

    Args:
        overrides: Further overrides of the training.

    Returns:
        The result of `train`, and the `seconds` that both took.
    """
    tune_allocator()
    from koa_lightning.evaluation.evaluate import evaluate
    from koa_lightning.training.run import train

    start = time.monotonic()
    out = f"{RUN}-{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    typed = ["experiment=demo", *overrides]
    cfg = compose("train", [*typed, f"out={out}"])
    run_folder.remember(Path(out), typed)
    trained = train(cfg)
    if trained["exit_code"] != outcome.DONE:
        return trained
    keep = [item for item in overrides if item.startswith(("tracking", "explain=", "figures", "quiet="))]
    evaluated = evaluate(compose("eval", [f"ckpt={trained['checkpoint']}", f"out={out}/eval", *keep]))
    seconds = time.monotonic() - start
    _closing_table(trained, evaluated, out, seconds)
    return {**trained, "seconds": seconds}


def _closing_table(trained: dict[str, object], evaluated: dict[str, object], out: str, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", title=f"koa-lightning demo (phantom data, {DISCLAIMER})", show_header=False)
    for label, name in (("quadratic kappa", "quadratic_kappa"), ("accuracy", "accuracy"), ("MAE", "mae")):
        table.add_row(f"validation {label}", f"{trained[f'val/{name}']:.3f}   (test {evaluated[name]:.3f})")
    table.add_row("training and evaluation", f"{seconds:.0f} s")
    Console().print(table)
    # below the table and never wrapped, as readers copy paths and commands
    for label, line in (
        ("checkpoint", trained["checkpoint"]), ("pictures", f"{out}/figures/"), ("report", f"{out}/eval/report.html"),
        ("compare runs", "make ui"), ("next", "python -m koa_lightning.train data=chen2018 data.root=FOLDER"),
    ):  # fmt: skip
        print(f"{label + ':':<14}{line}", flush=True)


def main() -> None:
    """Entry point of `python -m koa_lightning.demo`."""
    with signals.installed():
        code = _code(sys.argv[1:])
        sys.exit(signals.exit_code() if code == outcome.INTERRUPTED else code)


def _code(overrides: list[str]) -> int:
    try:
        return int(demo(overrides).get("exit_code", outcome.DONE))  # type: ignore[call-overload]
    except KeyboardInterrupt:
        outcome.say_error("interrupted")
        return outcome.INTERRUPTED
    except Exception as error:
        return outcome.bad_input(error)


if __name__ == "__main__":
    main()
