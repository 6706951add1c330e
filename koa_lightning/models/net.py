"""The network: any timm image model with one gray channel in and grades out."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from koa_lightning import links
from koa_lightning.errors import InputError
from koa_lightning.models import weights as w


@dataclass(frozen=True)
class NetSpec:
    """All that is needed to build the network again; plain values, no code.

    Attributes:
        name: timm's name.
        link: How logits become probabilities, see `koa_lightning.links`.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth, where the model has it.
        mean, std: Of the gray values in [0, 1], for normalisation.
    """

    name: str
    link: str = "softmax"
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    mean: float = 0.449
    std: float = 0.226

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return asdict(self)


class KneeNet(nn.Module):
    """A timm model between normalisation and grade logits.

    `last_map` is an identity through which the last feature map (N x C x h x w) passes, so that class activation maps
    can hook on any model at the same place.
    """

    def __init__(self, net: nn.Module, spec: NetSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.last_map = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Return logits N x 5 (N x 4 for `corn`) of normalised images float N x 1 x H x W."""
        features = self.last_map(self.net.forward_features(image))  # type: ignore[operator]
        return self.net.forward_head(features)  # type: ignore[operator]

    def normalise(self, image: Tensor) -> Tensor:
        """Return gray values in [0, 1], or uint8 0-255, as the network wants them (float, same shape)."""
        if image.dtype == torch.uint8:
            return image.float().sub_(255 * self.spec.mean).div_(255 * self.spec.std)
        return (image - self.spec.mean) / self.spec.std

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the classifier."""
        return list(self.net.get_classifier().parameters())  # type: ignore[operator]


def check_name(name: str) -> None:
    """Raise when timm has no such model.

    Raises:
        InputError: With the nearest name.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `timm.list_models()` lists them"
        raise InputError(f"model.name={name}: timm has no such model{hint}")


def build(spec: NetSpec, weights: w.Weights | None = None) -> KneeNet:
    """Build the network, with first weights if any.

    Raises:
        InputError: Unknown name, a model that refuses an option, or weights that do not fit.
    """
    check_name(spec.name)
    options: dict[str, Any] = {"drop_rate": spec.drop_rate, "drop_path_rate": spec.drop_path_rate}
    source: dict[str, Any] = {"pretrained": False}
    if weights is not None and weights.from_hub:
        source = {"pretrained": True}
    elif weights is not None and weights.state_dict is not None and not weights.origin.startswith("file:"):
        source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": weights.state_dict}}
    try:
        net = timm.create_model(
            spec.name, in_chans=1, num_classes=links.n_outputs(spec.link), **_given(options), **source
        )
    except TypeError as error:
        raise InputError(f"model.name={spec.name}: it does not take {error}; set that option to 0") from None
    if weights is not None and weights.origin.startswith("file:") and weights.state_dict is not None:
        cfg: dict[str, Any] = net.pretrained_cfg  # type: ignore[assignment]
        classifier = cfg.get("classifier") or "classifier"
        w.load_file_weights(net, weights.state_dict, spec.name, weights.origin, classifier)
    return KneeNet(net, spec)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value}


def gray_statistics(name: str) -> tuple[float, float]:
    """Return mean and standard deviation of gray values that the model's ImageNet weights were trained with.

    The three channels' are averaged: summing a stem over RGB weights sees each channel as the same gray.
    """
    check_name(name)
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:
        return 0.449, 0.226
    return sum(cfg.mean) / len(cfg.mean), sum(cfg.std) / len(cfg.std)
