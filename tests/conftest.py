"""A grader so small that a test can train it."""

import functools

import lightning as L
import numpy as np
import pytest
import torch

from koa_lightning import schedules
from koa_lightning.augment import KneeAugment
from koa_lightning.callbacks import Checkpoints, History
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule, KneeDataset
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.models.grader import KneeGrader
from koa_lightning.models.net import NetSpec, build
from koa_lightning.speed import Plan


@pytest.fixture(scope="session")
def tiny_record():
    """What a checkpoint of the tiny grader carries."""

    def make(spec=None):
        return {
            "format": 1,
            "version": "0.0.0",
            "net": (spec or NetSpec("test_efficientnet")).to_dict(),
            "preprocessing": {"image_size": 32, "fit": "letterbox", "canonical_side": None},
            "grade_names": ["none", "doubtful", "minimal", "moderate", "severe"],
            "config": {"data": {"name": "phantom", "batch_size": 4, "image_size": 32}},
            "data": {"name": "phantom", "fingerprint": "abc", "counts": {"train": [4, 4, 4, 4, 4]}},
            "marks": ["phantom data"],
            "weights": "none",
            "plan": {"precision": "fp32", "channels_last": True, "reason": "as configured"},
            "tracking": {},
        }

    return make


@pytest.fixture(scope="session")
def tiny_data():
    """Noise whose brightness tells the grade; 20 knees to train on and 10 to validate on, 32 pixels."""

    def make(n_train=20, batch_size=4, seed=0):
        data = KneeDataModule(
            lambda: None, name="noise", preprocessing=Preprocessing(32), batch_size=batch_size, seed=seed, quiet=True
        )
        rng = np.random.default_rng(0)
        for part, n in (("train", n_train), ("val", 10)):
            grades = np.arange(n) % 5
            images = rng.integers(0, 120, (n, 32, 32)) + 30 * grades[:, None, None]
            data.datasets[part] = KneeDataset(images.astype(np.uint8), np.arange(n), grades)
        return data

    return make


@pytest.fixture(scope="session")
def tiny_grader(tiny_record):
    """A grader on a network of 0.4 million parameters with depthwise convolutions and every kind of randomness."""

    def make(
        spec=None, *, scheduler=schedules.one_cycle, optimizer=torch.optim.AdamW, lr=1e-3, head_lr=None,
        head_only_epochs=0, total_steps=20, monitor="val/quadratic_kappa", mode="max", seed=0, loss=None, plan=None,
        augment=None, weight_decay=0.01,
    ):  # fmt: skip
        spec = spec or NetSpec("test_efficientnet", drop_rate=0.3, drop_path_rate=0.2)
        torch.manual_seed(seed)
        return KneeGrader(
            (plan or Plan("fp32", True, "")).prepare(build(spec)),
            loss or CrossEntropy(),
            augment or KneeAugment(flip=0.5, rotation=10, noise=0.05, erasing=0.5),
            optimizer=functools.partial(optimizer, lr=lr),
            scheduler=scheduler,
            lr=lr,
            head_lr=head_lr,
            weight_decay=weight_decay,
            head_only_epochs=head_only_epochs,
            total_steps=total_steps,
            monitor=monitor,
            mode=mode,
            seed=seed,
            record=tiny_record(spec),
        )

    return make


@pytest.fixture(scope="session")
def tiny_trainer():
    """A trainer with History and Checkpoints as `koa_lightning.train` sets it up."""

    def make(folder, *before, max_epochs=4, monitor="val/quadratic_kappa", mode="max", **options):
        folder.mkdir(parents=True, exist_ok=True)
        return L.Trainer(
            accelerator="cpu",
            max_epochs=max_epochs,
            callbacks=[*before, History(folder / "history.csv"), Checkpoints(folder, monitor, mode)],
            logger=False,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            **{"gradient_clip_val": 1.0, **options},
        )

    return make
