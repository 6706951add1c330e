"""A contact sheet of an augmentation: what each operation and all together make of some knees."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor
from torch.nn import functional as F

from koa_lightning import DISCLAIMER
from koa_lightning.config.compose import validate
from koa_lightning.data import manifest as mf
from koa_lightning.data.build import data_module
from koa_lightning.data.cache import open_cache
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.errors import InputError
from koa_lightning.training.augmentation.build import augmentation
from koa_lightning.training.augmentation.container import FusedAugmentation

FILE = "augment.png"
_CELL, _GAP, _LINE = 160, 2, 16  # pixels: the longest side of a knee, between two, and the height of a label
_TOGETHER = 3  # rows in which all operations are drawn
_WIDTH = 400  # pixels, at least: the longest label


def show_augment(cfg: DictConfig) -> dict[str, Any]:
    """Draw the contact sheet of a config, of knees of the train split, and say where it is.

    Args:
        cfg: The config `show_augment`, composed.

    Returns:
        `out`, the folder, and `file`, the PNG in it.

    Raises:
        InputError: The augmentation cannot be built, or the data cannot be read.
    """
    validate(cfg)
    augment = augmentation(cfg.augment, cfg.data.image_size)
    knees, labels = _knees(data_module(cfg.data, cfg.seed, quiet=True), cfg.n_knees)
    folder = Path(cfg.out)
    folder.mkdir(parents=True, exist_ok=True)
    source = "PHANTOMS (synthetic). " if cfg.data.name == "phantom" else ""
    contact_sheet(augment, knees, labels, cfg.seed, f"{source}{DISCLAIMER}").save(folder / FILE, optimize=True)
    print(f"{folder / FILE}: {len(knees)} knees under {len(augment.operations)} operations")
    return {"out": str(folder), "file": str(folder / FILE)}


def contact_sheet(
    augment: FusedAugmentation, knees: Tensor, labels: Sequence[str], seed: int, caption: str
) -> Image.Image:
    """Return the sheet: a row of knees as they are, a row for each operation alone, and rows of all together.

    An operation alone is drawn for every knee, whatever its probability.

    Args:
        augment: What to show.
        knees: uint8 N x 1 x H x W.
        labels: Of the knees, one a column.
        seed: Of what is drawn.
        caption: The first line.
    """
    rows = [("as it is", FusedAugmentation({})(knees))]
    for name, operation in augment.operations.items():
        always = copy.copy(operation)
        always.p = always.p_batch = 1.0
        title = f"{name}: {type(operation).__name__}, p = {min(operation.p, operation.p_batch):g}, here drawn for all"
        rows.append((title, FusedAugmentation({name: always})(knees, Generator().manual_seed(seed))))
    if augment.operations:
        rows += [
            (f"all together, draw {i + 1}", augment(knees, Generator().manual_seed(seed + i))) for i in range(_TOGETHER)
        ]
    cells = [(title, _small(batch)) for title, batch in rows]
    height, width = (max(batch.shape[axis] for _, batch in cells) for axis in (-2, -1))
    step, across = height + _LINE + _GAP, len(knees) * (width + _GAP)
    font = ImageFont.load_default(11)
    sheet = Image.new("L", (max(across, _WIDTH), 2 * _LINE + len(cells) * step), 255)
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 1), caption, 0, font)
    for column, label in enumerate(labels):
        draw.text((2 + column * (width + _GAP), _LINE + 1), label, 0, font)
    for row, (title, batch) in enumerate(cells):
        top = 2 * _LINE + row * step
        draw.text((2, top + 1), title, 0, font)
        for column, picture in enumerate(batch):
            sheet.paste(Image.fromarray(picture), (column * (width + _GAP), top + _LINE))
    return sheet


def _small(batch: Tensor) -> NDArray[np.uint8]:
    """Return float32 N x 1 x H x W as uint8 N x H x W, no side longer than a cell."""
    longest = max(batch.shape[-2:])
    if longest > _CELL:
        size = [max(1, round(side * _CELL / longest)) for side in batch.shape[-2:]]
        batch = F.interpolate(batch, size, mode="bilinear", antialias=True)
    pixels: NDArray[np.uint8] = batch[:, 0].mul(255).round().clamp(0, 255).byte().numpy()
    return pixels


def _knees(module: KneeDataModule, n: int) -> tuple[Tensor, list[str]]:
    """Return some knees of the train split as training has them, uint8 N x 1 x H x W, and a label for each."""
    rows = module.rows(("train",))
    rows = rows[rows["split"] == "train"]
    turn = rows.groupby("grade").cumcount()
    chosen = rows.loc[pd.DataFrame({"turn": turn, "grade": rows["grade"]}).sort_values(["turn", "grade"]).index]
    chosen = mf.add_hashes(chosen.head(n).reset_index(drop=True), ("train",))
    paths, hashes, sides = (chosen[name].tolist() for name in ("path", "hash", "side"))
    with TemporaryDirectory() as folder:  # a few knees: not worth a place among the caches of whole data sets
        cache = open_cache(paths, hashes, sides, module.preprocessing, Path(folder), True)
        readable = [i for i in range(len(chosen)) if i not in cache.unreadable]
        if not readable:
            raise InputError(f"data={module.name}: none of the first {len(chosen)} knees can be read; run audit on it")
        images = torch.from_numpy(np.stack([np.array(cache.images[i]) for i in readable]))
    return images.unsqueeze(1), [f"grade {chosen['grade'].iloc[i]}" for i in readable]
