"""The network: any timm image model with one gray channel in and grades out."""

from __future__ import annotations

import difflib
import sys
from dataclasses import asdict, dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from koa_lightning.config import folders
from koa_lightning.config.instantiate import located
from koa_lightning.errors import InputError
from koa_lightning.models import outputs
from koa_lightning.models import weights as w

# Standard deviation of a new classifier's weights. Some of timm's initialisations (EfficientNet's) give random logits
# of +-5, and the backbone spends its first epoch undoing them.
HEAD_STD = 0.01
# Arguments of timm that a model may lack; it then trains without them.
_SPARED = ("drop_rate", "drop_path_rate")


@dataclass(frozen=True)
class NetSpec:
    """Everything needed to rebuild the network; plain values, no code.

    Attributes:
        name: timm's name.
        link: How logits become probabilities, see `koa_lightning.models.outputs`.
        drop_rate: Dropout before the head.
        drop_path_rate: Stochastic depth, where the model has it.
        mean, std: Mean and standard deviation of the gray values in [0, 1], for normalisation.
        image_size: In pixels; only models that are built for one size (transformers) need it.
    """

    name: str
    link: str = "softmax"
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    mean: float = 0.449
    std: float = 0.226
    image_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values."""
        return asdict(self)


class KneeNet(nn.Module):
    """A timm model between normalisation and grade logits.

    `last_map` is an identity through which the last feature map (N x C x h x w) passes, so that class activation maps
    can hook into any model at the same place.
    """

    def __init__(self, net: nn.Module, spec: NetSpec) -> None:
        super().__init__()
        self.net, self.spec = net, spec
        self.last_map = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Return logits N x 5 (N x 4 for `corn`) of normalised images float N x 1 x H x W."""
        return self.head(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """Return the last feature map (N x C x h x w of a convolutional model) of images as for `forward`."""
        return self.last_map(self.net.forward_features(image))  # type: ignore[operator]

    def head(self, features: Tensor) -> Tensor:
        """Return the logits for a last feature map."""
        return self.net.forward_head(features)  # type: ignore[operator]

    def normalise(self, image: Tensor) -> Tensor:
        """Return gray values in [0, 1], or uint8 0-255, as the network expects them (float, same shape)."""
        if image.dtype == torch.uint8:
            return image.float().sub_(255 * self.spec.mean).div_(255 * self.spec.std)
        return (image - self.spec.mean) / self.spec.std

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the classifier."""
        return list(_head_of(self.net).values())


def check_name(name: str) -> None:
    """Check that timm has a model of this name.

    Raises:
        InputError: It has none; the message suggests the nearest names.
    """
    if isinstance(name, str) and not timm.is_model(name):
        _register(name)
    if not isinstance(name, str) or not timm.is_model(name):
        near = difflib.get_close_matches(str(name), timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; `timm.list_models()` lists them"
        raise InputError(f"model.name={name}: timm has no such model{hint}")
    architecture, dot, tag = name.partition(".")
    known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if dot and tag not in known:
        raise InputError(f"model.name={name}: {architecture} has no such weights; omit the tag, or take one of {known}")


def _register(name: str) -> None:
    """Import the backbone that a config of the group `model` declares under this name, which registers it with timm.

    A name from a checkpoint is looked up only in the installed configs and in a typed `--config-dir`.

    Raises:
        InputError: Its module cannot be imported, or does not register it.
    """
    for file, content in folders.contents("model"):
        target = content.get("_target_")
        if content.get("name") != name or not isinstance(target, str):
            continue
        located(target, file)
        if not timm.is_model(name):
            raise InputError(
                f"{file}: name={name}: {target} does not register a model of this name; decorate a function of this "
                "name with timm.models.register_model"
            )
        return


def build(spec: NetSpec, weights: w.Weights | None = None) -> KneeNet:
    """Build the network, with initial weights if given; dropout that the model lacks is omitted with a warning.

    Raises:
        InputError: The name is unknown, the model refuses an option, or the weights do not fit.
    """
    check_name(spec.name)
    options: dict[str, Any] = {"drop_rate": spec.drop_rate, "drop_path_rate": spec.drop_path_rate}
    cfg = timm.get_pretrained_cfg(spec.name)
    if cfg is not None and cfg.fixed_input_size:
        options["img_size"] = spec.image_size
    source: dict[str, Any] = {}
    if weights is not None and weights.state_dict is not None and not weights.from_file:
        # timm removes entries from the dictionary that it is given
        source = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(weights.state_dict)}}
    try:
        net = timm.create_model(
            spec.name, in_chans=1, num_classes=outputs.n_outputs(spec.link), **_given(options), **source
        )
        head = _head_of(net)
        _quieten(head)
        if weights is not None and weights.untrained:
            _rest(net)
        _try(net, spec)
    except (ArithmeticError, AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        if refused := next((key for key in _given(options) if key in _SPARED and f"'{key}'" in str(error)), ""):
            print(f"model.name={spec.name}: this model has no {refused}; it trains without it", file=sys.stderr)
            return build(NetSpec(**{**spec.to_dict(), refused: 0.0}), weights)
        raise InputError(f"model.name={spec.name}: {_refusal(error, options)}") from None
    # Otherwise each copy of the model would also copy the ImageNet weights.
    (getattr(net, "pretrained_cfg", None) or {}).pop("state_dict", None)
    if weights is not None and weights.state_dict is not None and weights.from_file:
        w.load_file_weights(net, weights.state_dict, head, spec.name, weights.origin)
    return KneeNet(net, spec)


@torch.no_grad()
def _try(net: nn.Module, spec: NetSpec) -> None:
    """Grade one image: some models fail only then if they do not accept gray images or this size."""
    if spec.image_size is None:
        return
    found = net.eval()(torch.zeros(1, 1, spec.image_size, spec.image_size))
    net.train()
    if found.shape != (1, outputs.n_outputs(spec.link)):
        raise RuntimeError(f"it gives values of shape {tuple(found.shape)} for one image")


def _head_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """Return the classifier's parameters under their names in the model; some models have two classifiers."""
    found = net.get_classifier()  # type: ignore[operator]
    classifiers = found if isinstance(found, tuple) else (found,)
    ids = {id(parameter) for classifier in classifiers for parameter in classifier.parameters()}
    return {name: parameter for name, parameter in net.named_parameters() if id(parameter) in ids}


@torch.no_grad()
def _quieten(head: dict[str, nn.Parameter]) -> None:
    """Shrink the random weights of a new classifier, so that all grades are about equally probable at first.

    Some models (MLP-Mixer, Sequencer) start with zeros, which give neither the backbone nor a heat map a gradient.
    """
    for parameter in head.values():
        if parameter.ndim > 1 and not parameter.is_meta and not parameter.any():
            nn.init.normal_(parameter, std=HEAD_STD)
        elif parameter.ndim > 1:
            parameter.mul_((HEAD_STD / parameter.std()).clamp(max=1.0))


@torch.no_grad()
def _rest(net: nn.Module) -> None:
    """Start each residual block of an EfficientNet as the identity: set the scale of its last norm to 0.

    Goyal et al. 2017 did so for ResNet, and timm does for most others. Without it, the 26 random blocks of B3 distort
    their input so much that a short training learns nothing.
    """
    for block in net.modules():
        norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
        # If an activation follows the norm, a scale of 0 would get no gradient.
        if getattr(block, "has_skip", False) and norms and isinstance(getattr(norms[-1], "act", None), nn.Identity):
            norms[-1].weight.zero_()


def _refusal(error: Exception, options: dict[str, Any]) -> str:
    size = f" of {options['img_size']} pixels" if options.get("img_size") else ""
    return f"it does not grade gray images{size} ({error}); choose another"


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value}


def gray_statistics(name: str) -> tuple[float, float]:
    """Return the mean and standard deviation of gray values that the model's ImageNet weights were trained with.

    They are averages over the three channels: a stem that is summed over RGB sees the same gray in each channel.
    """
    check_name(name)
    cfg = timm.get_pretrained_cfg(name)
    if cfg is None:
        return 0.449, 0.226
    return sum(cfg.mean) / len(cfg.mean), sum(cfg.std) / len(cfg.std)
