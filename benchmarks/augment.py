"""Time of an augmentation against Kornia's AugmentationSequential with the same operations.

    python -m benchmarks.augment

64 x 1 x 224 x 224 uint8 on the CPU, both sides in one process in turn; the ratio is the median of the ratios
of neighbouring runs. Kornia refuses uint8, so the conversion to float is part of both sides.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from kornia import augmentation as ka
from omegaconf import OmegaConf
from torch import Tensor

from koa_lightning.training.augmentation import FusedAugmentation, augmentation

CONF = Path(__file__).parents[1] / "conf" / "augment"
Operations = dict[str, ka.AugmentationBase2D]
SHAPE = (64, 1, 224, 224)
ROUNDS = 15


def measure(rounds: int = ROUNDS) -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is Kornia's time over ours, above 1 is faster."""
    warnings.filterwarnings("ignore", module="kornia")
    image = torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blur: Operations = {"blur": ka.RandomGaussianBlur((5, 5), (0.1, 2.0), p=1.0)}
    light, strong = preset("light"), preset("strong")
    cases = (
        ("augment light", light, 3.0),
        ("augment strong", strong, 3.0),
        ("augment light, all positions in one RandomAffine", merged(light), 1.5),
        ("augment strong, all positions in one RandomAffine", merged(strong), 1.5),
        ("augment, one operation that cannot be fused", blur, 1.0),
    )
    return [_row(name, goal, image, FusedAugmentation(operations), rounds) for name, operations, goal in cases]


def preset(name: str) -> Operations:
    """Return the operations of a file in conf/augment/."""
    return augmentation(OmegaConf.load(CONF / f"{name}.yaml"), SHAPE[-1]).operations  # type: ignore[arg-type]


def merged(operations: Operations) -> Operations:
    """Return a preset with its rotation left to `RandomAffine`: one warp for Kornia too."""
    of = {"light": (10.0, (0.05, 0.05), (0.95, 1.05)), "strong": (20.0, (0.1, 0.1), (0.85, 1.15))}
    degrees, shift, zoom = of["strong" if "gamma" in operations else "light"]
    affine = ka.RandomAffine(degrees, translate=shift, scale=zoom, p=1.0)
    return {name: affine if name == "affine" else step for name, step in operations.items() if name != "rotation"}


def _row(name: str, goal: float, image: Tensor, ours: FusedAugmentation, rounds: int) -> dict:
    theirs = ka.AugmentationSequential(*ours.operations.values(), data_keys=["input"])
    pairs = [
        (_seconds(lambda: theirs(image.float().div_(255))), _seconds(lambda: ours(image))) for _ in range(rounds + 2)
    ][2:]  # the first two warm up
    theirs_ms, ours_ms = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    detail = f"Kornia {theirs_ms:.0f} ms, FusedAugmentation {ours_ms:.0f} ms per batch of {SHAPE[0]}"
    return {"name": name, "ratio": ratio, "goal": goal, "detail": detail}


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in measure():
        print(f"{row['name']}: {row['ratio']:.1f} times as fast (goal {row['goal']}); {row['detail']}")
