"""Images from the data module against torchvision's ImageFolder on the same files.

    python benchmarks/loader.py

Phantoms are written as PNG files to a temporary folder. Both sides give shuffled batches of gray 224 px images from one
process: ImageFolder decodes them in each epoch (in the usual set-up: Grayscale, ToTensor, DataLoader); the data module
copies them out of its cache, which is built before. `cache_build` measures the building.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Grayscale, ToTensor

from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest
from koa_lightning.data.sources.table import table

GOAL = 50
SIZE = 224
N_PATIENTS = 256
BATCH = 64
ROUNDS = 7
EPOCHS = 20  # of the data module a round: one takes some milliseconds


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; ratio is images per second of the data module over those of ImageFolder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_phantoms(root / "knees", N_PATIENTS, SIZE)
        theirs, ours = image_folder(root / "knees"), data_module(root).train_dataloader()
        pairs = [(_rate(theirs, 1), _rate(ours, EPOCHS)) for _ in range(ROUNDS + 1)][1:]  # the first warms up
    slow, fast = (statistics.median(rates) for rates in zip(*pairs, strict=True))
    ratio = statistics.median(fast / slow for slow, fast in pairs)
    detail = f"ImageFolder {slow:,.0f}, KneeDataModule {fast:,.0f} images per second, batch {BATCH}, {SIZE} px PNG"
    return [{"name": "loader", "ratio": ratio, "goal": GOAL, "detail": detail}]


def write_phantoms(root: Path, n_patients: int, size: int) -> list[Path]:
    """Write the two knees of each patient as `root/GRADE/PATIENT SIDE.png` and a table of them; return the files."""
    knees = phantom_manifest(n_patients, seed=0)
    images = draw_phantoms(
        knees["patient"].tolist(), knees["side"].tolist(), knees["grade"].tolist(), seed=0, size=size
    )
    files = [root / str(k.grade) / f"{k.patient}{k.side}.png" for k in knees.itertuples()]
    for file, image in zip(files, images, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(image))
    knees.assign(path=[str(file.relative_to(root)) for file in files], split="train").to_csv(root / "knees.csv")
    return files


def png(image: np.ndarray) -> bytes:
    """Return a uint8 H x W image as PNG."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def image_folder(root: Path) -> DataLoader:
    """Return the usual loader."""
    data = ImageFolder(str(root), Compose([Grayscale(), ToTensor()]))
    return DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)


def data_module(root: Path) -> KneeDataModule:
    """Return the data module over the same files, with its cache built."""
    return KneeDataModule(
        lambda: table(str(root / "knees" / "knees.csv")),
        name="table",
        preprocessing=Preprocessing(SIZE),
        batch_size=BATCH,
        cache_dir=str(root / "cache"),
        quiet=True,
    ).prepare(("train",))


def _rate(batches: Iterable, epochs: int) -> float:
    """Return the images per second over some epochs."""
    start, n = time.perf_counter(), 0
    for _ in range(epochs):
        n += sum(_count(batch) for batch in batches)
    return n / (time.perf_counter() - start)


def _count(batch: dict[str, torch.Tensor] | list[torch.Tensor]) -> int:
    return len(batch["image"] if isinstance(batch, dict) else batch[0])


if __name__ == "__main__":
    for row in measure():
        print(f"{row['name']}: {row['ratio']:.0f} times as fast (goal {row['goal']}); {row['detail']}")
