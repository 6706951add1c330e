"""What every checkpoint carries beside its weights: typed, plain, and naming no code, file or address to follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.models.net import NetSpec
from koa_lightning.models.plan import Plan

FORMAT = 1
"""Version of the schema; 0.1 wrote the same."""
RECORD = "koa_lightning"
"""Key of the record in the file."""


@dataclass(frozen=True)
class TrainingData:
    """The data of a training.

    Attributes:
        name: Of the source, e.g. `chen2018`.
        fingerprint: Names the knees of the training and the validation split.
        counts: Knees of each grade, by split.
        split: How the splits were made; None in files that do not say so.
    """

    name: str
    fingerprint: str
    counts: Mapping[str, list[int]] = field(default_factory=dict)
    split: str | None = None


@dataclass(frozen=True)
class TrackedRun:
    """The run in a tracking store, None where it was not tracked; a store is opened only where the user names it."""

    uri: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointRecord:
    """What a checkpoint says of itself.

    Attributes:
        version: Of the program that wrote it.
        net: What the network is built from.
        preprocessing: What is done to an image.
        grade_names: Five, grade 0 first.
        config: The run's config: resolved, plain, without `_target_` entries and without passwords.
        data: That it was trained on.
        caveats: What no figure may hide, e.g. phantom data.
        weights: Where the first weights came from.
        weights_reason: Why these; None where nothing has to be said.
        plan: Precision and memory format.
        tracking: The run that wrote it.
        loss: Name of the loss; counts only where the installed configs name the same.
        made_of: Names of optimizer and schedule, for people to read.
        fitted: What was fitted on the validation split.
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
        """Return what the run was called, else its network."""
        return str(self.config.get("name") or self.net.name)

    @property
    def data_settings(self) -> Mapping[str, Any]:
        """Return the config group `data` of the run, plain."""
        settings: Mapping[str, Any] = self.config["data"]
        return settings

    @property
    def eval_batch_size(self) -> int:
        """Return how many images a batch of validation had."""
        return int(self.data_settings.get("eval_batch_size") or 2 * self.data_settings["batch_size"])
