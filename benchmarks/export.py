"""How fast exported graders are compared with eager PyTorch in fp32: images per second, and the time of one image.

    python -m benchmarks.export

Lite0 and B3 with random weights, as speed does not depend on the weights, on all outputs: probabilities, grades, heat
map. All variants run in one process and take turns; the ratio is the median of the ratios of neighbouring turns. Eager
is the same function of an image under `torch.no_grad`, channels_last. int8 is fitted on noise here;
`koa_lightning.export` fits it on training knees and measures what it costs in kappa.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.process import in_own_process
from koa_lightning.checkpoint.reading import Checkpoint
from koa_lightning.checkpoint.record import CheckpointRecord, TrainingData
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.evaluation.grading import Member
from koa_lightning.models.exported import onnx_program, openvino_program
from koa_lightning.models.net import NetSpec, build
from koa_lightning.models.plan import Plan
from koa_lightning.serving.export import formats
from koa_lightning.serving.export.graph import Grader
from koa_lightning.serving.export.quantise import quantised

CASES = (("Lite0", "tf_efficientnet_lite0", 224), ("B3", "efficientnet_b3", 300))
BATCHES = {32: 1, 1: 10}  # images per pass -> passes per turn
ROUNDS, WARM_UP = 8, 1
GOAL = 3.0


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}: the fastest export of each case, then each variant by itself without a goal."""
    rows = []
    for name, model, size in CASES:
        for batch, passes in BATCHES.items():
            times = in_own_process("benchmarks.export:turns", model, size, batch, passes)
            eager = times.pop("eager fp32")
            ratios = {
                way: statistics.median(a / b for a, b in zip(eager[WARM_UP:], own[WARM_UP:], strict=True))
                for way, own in times.items()
            }
            speed = {way: batch * passes / statistics.median(own[WARM_UP:]) for way, own in times.items()}
            first = batch * passes / statistics.median(eager[WARM_UP:])
            best = max(ratios, key=lambda way: ratios[way])
            title = f"{name}, {size} px, batch {batch}"
            detail = f"{best}: {speed[best]:.1f} images/s, eager {first:.1f}; {1e3 * batch / speed[best]:.1f} ms/pass"
            rows.append({"name": f"export {title}", "ratio": ratios[best], "goal": GOAL, "detail": detail})
            rows += [
                {"name": f"  {way}", "ratio": ratio, "goal": None, "detail": f"{speed[way]:.1f} images/s"}
                for way, ratio in ratios.items()
            ]
    return rows


def turns(model: str, size: int, batch: int, passes: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds of each turn of each variant, in this process; eager comes first."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 1, size, size), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        runs = _ways(model, size, Path(folder))
        found: dict[str, list[float]] = {way: [] for way in runs}
        for _ in range(rounds):
            for way, run in runs.items():
                start = time.perf_counter()
                for _ in range(passes):
                    run(images)
                found[way].append(time.perf_counter() - start)
    return found


def _ways(model: str, size: int, folder: Path) -> dict[str, Callable[[np.ndarray], Any]]:
    grader = Grader([_member(model, size)]).eval()
    plain = formats.onnx_model(grader, size)
    drawn = torch.Generator().manual_seed(0)
    small = quantised(plain, torch.randint(0, 256, (32, 1, size, size), dtype=torch.uint8, generator=drawn))
    for name, made in (("fp32", plain), ("int8", small)):
        formats.save_openvino(formats.from_onnx(made), folder / f"{name}.xml", {}, half=False)

    def eager(images: np.ndarray) -> Any:
        with torch.no_grad():
            return grader(torch.from_numpy(images))

    return {
        "eager fp32": eager,
        "onnx fp32": onnx_program(plain.SerializeToString())[0],
        "onnx int8": onnx_program(small.SerializeToString())[0],
        "openvino fp32": openvino_program(folder / "fp32.xml")[0],
        "openvino int8": openvino_program(folder / "int8.xml")[0],
    }


def _member(model: str, size: int) -> Member:
    """Return an untrained network as a member of a predictor."""
    torch.manual_seed(0)
    spec = NetSpec(model)
    settings = {"data": {"name": "phantom", "batch_size": 1}}
    names = ("none", "doubtful", "minimal", "moderate", "severe")
    record = CheckpointRecord(
        version="0", net=spec, preprocessing=Preprocessing(size), grade_names=names, config=settings,
        data=TrainingData("phantom", ""), caveats=("untrained",), weights="none", plan=Plan("fp32", True, ""),
    )  # fmt: skip
    return Member(Checkpoint(Path("untrained"), record, 0, 1, build(spec).state_dict()), torch.device("cpu"))


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
