"""Images per second of an augmentation and of Kornia's AugmentationSequential with the same operations, on a GPU.

    python -m benchmarks.augment_gpu [light|strong] [batch] [side]

It prints one line for each. It is not part of `benchmarks.run`, which needs no GPU.
"""

import sys
import time
import warnings
from collections.abc import Callable

import torch
from kornia import augmentation as ka
from torch import Tensor

from benchmarks.augment import preset
from koa_lightning.training.augmentation import FusedAugmentation

BATCHES = 50


def main(name: str = "strong", batch: int = 256, side: int = 224) -> None:
    """Measure both sides in turn, three times, and print the best of each."""
    if not torch.cuda.is_available():
        print("error: torch finds no GPU here", file=sys.stderr)
        sys.exit(2)
    warnings.filterwarnings("ignore", module="kornia")
    image = torch.randint(0, 256, (batch, 1, side, side), dtype=torch.uint8, device="cuda")
    operations = preset(name)
    ours, theirs = FusedAugmentation(operations), ka.AugmentationSequential(*operations.values(), data_keys=["input"])
    sides: dict[str, Callable[[], Tensor]] = {
        "Kornia": lambda: theirs(image.float().div_(255)),
        "FusedAugmentation": lambda: ours(image),
    }
    best = dict.fromkeys(sides, 0.0)
    for _ in range(3):
        for side_name, run in sides.items():
            best[side_name] = max(best[side_name], batch / _seconds(run))
    for side_name, speed in best.items():
        print(f"{name} {side_name}: {speed:,.0f} images per second")
    waits = waits_of(lambda: ours(image))
    print(f"ratio {best['FusedAugmentation'] / best['Kornia']:.1f}; ours waits for the GPU {waits} times per batch")


def waits_of(run: Callable[[], Tensor]) -> int:
    """Return how often one call makes the host wait for the GPU."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _seconds(run: Callable[[], Tensor]) -> float:
    """Return the seconds of one batch, of many that the host queues one after the other."""
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(BATCHES):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / BATCHES


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "strong", *map(int, sys.argv[2:4]))
