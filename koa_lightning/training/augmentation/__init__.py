"""Augmentation of a batch on its device: Kornia's operations and ours, as few passes as they need."""

from koa_lightning.training.augmentation.build import augmentation
from koa_lightning.training.augmentation.container import FusedAugmentation
from koa_lightning.training.augmentation.radiograph import (
    RandomCollimation,
    RandomDetectorNoise,
    RandomExposureCurve,
    RandomMeanContrast,
    RandomMeanErasing,
)

__all__ = [
    "FusedAugmentation",
    "RandomCollimation",
    "RandomDetectorNoise",
    "RandomExposureCurve",
    "RandomMeanContrast",
    "RandomMeanErasing",
    "augmentation",
]
