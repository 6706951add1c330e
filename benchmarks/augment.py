"""Time of KneeAugment against Kornia's AugmentationSequential with the same operations and ranges.

    python benchmarks/augment.py

64 x 1 x 224 x 224 uint8 on the CPU, both sides in one process in turn; the ratio is the median of the ratios
of neighbouring runs. Kornia refuses uint8, so the conversion to float is part of both sides. Kornia's side
does less where they differ: `RandomContrast` scales about zero (no mean), erasing fills with a constant.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import kornia.augmentation as kornia
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from koa_lightning.training.augmentation import KneeAugment

CONF = Path(__file__).parents[1] / "conf" / "augment"
SHAPE = (64, 1, 224, 224)
ROUNDS = 15


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is Kornia's time over ours, above 1 is faster."""
    warnings.filterwarnings("ignore", module="kornia")
    image = torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    light, strong = (instantiate(OmegaConf.load(CONF / f"{name}.yaml")) for name in ("light", "strong"))
    cases = (
        ("augment light", light, kornia_sequence(light), 2.5),
        ("augment light, Kornia's rotation merged into its affine", light, kornia_sequence(light, True), 1.5),
        ("augment strong", strong, kornia_sequence(strong), 2.5),
    )
    return [_row(name, goal, image, ours, theirs) for name, ours, theirs, goal in cases]


def kornia_sequence(ours: KneeAugment, merged: bool = False) -> nn.Module:
    """The operations of `ours` in Kornia; `merged` leaves the rotation to RandomAffine (one warp less)."""
    shift = (ours.translation, ours.translation)
    steps: list[kornia.AugmentationBase2D] = [kornia.RandomHorizontalFlip(p=ours.flip)]
    if not merged:
        steps.append(kornia.RandomRotation(ours.rotation, p=1.0))
    steps += [
        kornia.RandomAffine(ours.rotation if merged else 0.0, translate=shift, scale=ours.scale, p=1.0),
        kornia.RandomBrightness((1 - ours.brightness, 1 + ours.brightness), p=1.0),
        kornia.RandomContrast((1 - ours.contrast, 1 + ours.contrast), p=1.0),
    ]
    if ours.gamma != (1.0, 1.0):
        steps.append(kornia.RandomGamma(ours.gamma, p=1.0))
    if ours.noise:
        steps.append(kornia.RandomGaussianNoise(std=ours.noise, p=1.0))
    if ours.erasing:
        area, aspect = ours.erasing_area, ours.erasing_aspect
        steps.append(kornia.RandomErasing(p=ours.erasing, scale=area, ratio=aspect, value=0.5))
    return kornia.AugmentationSequential(*steps, data_keys=["input"])


def _row(name: str, goal: float, image: Tensor, ours: nn.Module, theirs: nn.Module) -> dict:
    pairs = [
        (_seconds(lambda: theirs(image.float().div_(255))), _seconds(lambda: ours(image))) for _ in range(ROUNDS + 2)
    ][2:]  # the first two warm up
    theirs_ms, ours_ms = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    detail = f"Kornia {theirs_ms:.0f} ms, KneeAugment {ours_ms:.0f} ms a batch of {SHAPE[0]}"
    return {"name": name, "ratio": ratio, "goal": goal, "detail": detail}


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in measure():
        print(f"{row['name']}: {row['ratio']:.1f} times as fast (goal {row['goal']}); {row['detail']}")
