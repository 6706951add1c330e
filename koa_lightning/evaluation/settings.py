"""The settings of an evaluation, which replace the config `eval` below the commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from koa_lightning.checkpoint.fitted import Fitted
from koa_lightning.evaluation import referral
from koa_lightning.uncertainty import conformal


@dataclass(frozen=True)
class Settings:
    """The keys of `conf/eval.yaml`, which documents each, without those that builders turn into objects.

    Attributes:
        given: The data config, if one was typed; None: the checkpoint's own.
    """

    out: Path
    split: str
    tta: str
    calibrated: bool
    alpha: float
    refer_below: float | None
    refer_risk: float | None
    table: str | None
    logits: bool
    n_resamples: int
    thresholds: str | None
    subgroups: list[str]
    edges: dict[str, list[float]]
    readers: list[str]
    report: bool
    audit: str | None
    quiet: bool
    given: dict[str, Any] | None

    @classmethod
    def of(cls, cfg: DictConfig) -> Settings:
        """Return the settings of a composed config `eval`, or of one that builds on it."""
        values: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
        chosen = {name: values.get(name) for name in cls.__dataclass_fields__}
        chosen |= {"out": Path(cfg.out), "edges": _edges(values["edges"] or {}), "given": values.get("data")}
        return cls(**chosen | {name: _names(values[name]) for name in ("subgroups", "readers")})

    @property
    def flip(self) -> bool:
        """Whether the mirrored image is graded too."""
        return self.tta == "flip"

    @property
    def logged_split(self) -> str:
        """The prefix of the logged metrics' names: train, val, or test for every other split."""
        return self.split if self.split in ("train", "val") else "test"

    def with_threshold(self, fitted: Fitted) -> Settings:
        """Return the settings with one referral threshold: `refer_below`, derived from `refer_risk` if that is set.

        Args:
            fitted: What the checkpoint stores; empty without a checkpoint.

        Raises:
            InputError: See `referral.threshold`; or alpha is not one of `conformal.ALPHAS`.
        """
        conformal.place(self.alpha)
        return replace(self, refer_below=referral.threshold(fitted, self.refer_below, self.refer_risk), refer_risk=None)


def _names(value: Any) -> list[str]:
    """Return a list of names from a list or from one name."""
    return [value] if isinstance(value, str) else [str(each) for each in value or []]


def _edges(value: Mapping[Any, Any]) -> dict[str, list[float]]:
    """Return the bin edges of each numeric column."""
    return {str(name): cuts if isinstance(cuts, list) else [cuts] for name, cuts in value.items()}
