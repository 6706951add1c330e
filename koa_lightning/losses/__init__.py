"""Losses for ordered grades, one family a file."""

from koa_lightning.losses.base import GradeLoss
from koa_lightning.losses.chen_ordinal import ChenOrdinal
from koa_lightning.losses.corn import Corn
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.losses.emd import EMD
from koa_lightning.losses.focal import Focal
from koa_lightning.losses.soft_ordinal import SoftOrdinal

__all__ = ["EMD", "ChenOrdinal", "Corn", "CrossEntropy", "Focal", "GradeLoss", "SoftOrdinal"]
