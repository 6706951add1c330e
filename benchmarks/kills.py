"""What kills at random moments lose: `python -m benchmarks.kills [NUMBER OF KILLS]`.

Trainings and sweeps on phantoms get SIGKILL at random moments, one to three times each. They are resumed as
a user would: a training by `ckpt=last`, or by its command if it had no checkpoint yet; a sweep by its command.
In the end each must equal an undisturbed run: the same history, the same metrics, the same trials. It prints a row for
each, and the counts. The exit code is 1 if a result differs, a message is a traceback or a resumed command fails.

Synthetic knees; research use only, not a medical device.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

TINY = [
    "data.source.n_patients=40", "data.image_size=32", "data.batch_size=8", "model=resnet18", "model.weights=none",
    "model.name=test_efficientnet", "trainer=cpu", "trainer.precision=fp32", "trainer.max_epochs=4", "explain=none",
    "quiet=true",
]  # fmt: skip
SWEEP = ["-m", *TINY, "sweep=grid", "optimizer.lr=1e-3,3e-3,1e-2", "sweep.name=mine", "trainer.max_epochs=2"]
KILLS = 60
MOST_SECONDS = 600  # a command that takes longer hangs


def main() -> int:
    wanted, chance = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS, random.Random(0)
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as place:
        environment = {"OMP_NUM_THREADS": "1", "KOA_CACHE": f"{place}/cache", "HF_HUB_OFFLINE": "1"}
        environment = {**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])}
        kinds = {"train": [*TINY, "optimizer.lr=3e-3"], "sweep": SWEEP}
        whole, seconds = {}, {}
        for kind, words in kinds.items():
            folder = Path(place, kind)
            start = time.monotonic()
            _run(folder, words, environment, None)
            whole[kind], seconds[kind] = _result(folder, kind), time.monotonic() - start
            print(f"{kind}: {seconds[kind]:.0f} s when nothing happens to it", flush=True)
        while counts["kills"] < wanted:
            kind = "sweep" if counts["runs"] % 3 == 2 else "train"
            folder = Path(place, f"{counts['runs']}")
            moments = [chance.uniform(0, seconds[kind]) for _ in range(chance.randint(1, 3))]
            same = _killed(folder, kind, kinds[kind], environment, moments, counts) == whole[kind]
            counts.update(runs=1, same=int(same))
            print(f"{kind} {counts['runs']}: {'the same' if same else 'DIFFERENT'}; {dict(counts)}", flush=True)
    return 0 if counts["same"] == counts["runs"] and not counts["tracebacks"] else 1


def _killed(
    folder: Path,
    kind: str,
    words: list[str],
    environment: dict[str, str],
    moments: list[float],
    counts: Counter[str],
) -> Any:
    """Run a command, kill it at these moments after each of its starts, resume it to its end; return its result."""
    for moment in [*moments, None]:
        lasts = list(folder.glob("outputs/*/checkpoints/last.ckpt"))
        resumed = kind == "train" and bool(lasts)
        code, said = _run(folder, ["ckpt=last"] if resumed else words, environment, moment)
        counts["tracebacks"] += "Traceback" in said
        counts["kills"] += code == -signal.SIGKILL
        counts["resumed"] += resumed or (kind == "sweep" and moment != moments[0])
        if code == 0:
            return _result(folder, kind)
        if code != -signal.SIGKILL:
            print(said, flush=True)
            return None
    return None


def _run(folder: Path, words: list[str], environment: dict[str, str], moment: float | None) -> tuple[int, str]:
    """Run `train` in a folder; kill it if it still runs after `moment` seconds; return its exit code and output."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "koa_lightning.train", *words]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(MOST_SECONDS if moment is None else moment)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        return code, (folder / "log").read_text()


def _result(folder: Path, kind: str) -> Any:
    """Return what must not depend on kills: a training's history and metrics, or the values of a sweep's trials."""
    if kind == "sweep":
        import optuna

        from koa_lightning.sweeps import study

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        storage = study.open_storage(f"sqlite:///{folder}/mlruns/sweeps.db")
        trials = optuna.load_study(study_name="mine", storage=storage).trials
        return sorted((trial.params["optimizer.lr"], trial.value) for trial in trials if trial.state.name == "COMPLETE")
    [done] = folder.glob("outputs/*/done.json")
    metrics = {k: v for k, v in json.loads(done.read_text()).items() if k not in ("checkpoint", "run_id")}
    return (done.parent / "history.csv").read_text(), metrics


if __name__ == "__main__":
    sys.exit(main())
