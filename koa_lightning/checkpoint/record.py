"""The record in every checkpoint, beside the weights: typed, plain, and without code, files or addresses to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.models.net import NetSpec
from koa_lightning.models.plan import Plan

FORMAT = 1
"""Version of the schema; koa_lightning 0.1 wrote the same one."""
RECORD = "koa_lightning"
"""Key of the record in the file."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a network was trained on.

    Attributes:
        name: Name of the source, e.g. `chen2018`.
        fingerprint: Identifies the knees of the train and the validation split.
        counts: Knees of each grade, by split.
        split: How the splits were made; None in files that do not record it.
    """

    name: str
    fingerprint: str
    counts: Mapping[str, list[int]] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True)
class TrackedRun:
    """The run in a tracking store, None if it was not tracked; a store is opened only if the user names it."""

    uri: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """The facts that a checkpoint records about itself.

    Attributes:
        version: The version of koa_lightning that wrote it.
        net: Specification of the network.
        preprocessing: How an image is prepared.
        grade_names: Five, grade 0 first.
        config: The run's config: resolved, plain, without `_target_` entries and without passwords.
        data: The data of the training.
        caveats: Caveats that every figure must show, e.g. phantom data.
        weights: Origin of the initial weights.
        weights_reason: Why these weights; None if there is nothing to explain.
        plan: Precision and memory format.
        tracking: The run that wrote it.
        loss: Name of the loss; used only if the installed configs name the same one.
        made_of: Names of optimizer and schedule, for people to read.
        fitted: Everything fitted on the validation split.
        schema_version: See `FORMAT`.
    """

    version: str
    net: NetSpec
    preprocessing: Preprocessing
    grade_names: tuple[str, ...]
    config: Mapping[str, Any]
    data: TrainingData
    caveats: tuple[str, ...]
    weights: str
    plan: Plan
    tracking: TrackedRun = field(default_factory=TrackedRun)
    loss: str | None = None
    made_of: Mapping[str, str] | None = None
    weights_reason: str | None = None
    fitted: Fitted = field(default_factory=Fitted)
    schema_version: int = FORMAT

    @property
    def name(self) -> str:
        """Return the name of the run, else that of its network."""
        return str(self.config.get("name") or self.net.name)

    @property
    def data_settings(self) -> Mapping[str, Any]:
        """Return the config group `data` of the run, plain."""
        settings: Mapping[str, Any] = self.config["data"]
        return settings

    @property
    def eval_batch_size(self) -> int:
        """Return the number of images in a validation batch."""
        return int(self.data_settings.get("eval_batch_size") or 2 * self.data_settings["batch_size"])
