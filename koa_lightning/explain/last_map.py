"""Where heat maps cut a network: at its last layer with a spatial grid, which has a place for each part of the image.

A convolutional network's last layer already is such a map. Transformers have tokens (N x T x C) or the channels last
(N x h x w x C): timm's metadata says how these map to the image. If the grade depends on a class token alone, the last
layer's other tokens do not reach it, so the network is cut one timm stage earlier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from koa_lightning.errors import InputError

INSTEAD = "choose a network with such a grid, e.g. one of timm's EfficientNet, ConvNeXt, Swin or ViT families"


@dataclass(frozen=True)
class Grid:
    """How the values of a layer map to the image.

    Attributes:
        kind: "NCHW", "NHWC", or "NTC" for tokens.
        size: Height and width in places.
        prefix: Tokens before those of the places: class token, registers.
        order: Number of the token at each place, row by row; None where the tokens are in this order.
    """

    kind: str
    size: tuple[int, int]
    prefix: int = 0
    order: tuple[int, ...] | None = None

    @property
    def channel(self) -> int:
        """Dimension of the channels."""
        return 1 if self.kind == "NCHW" else -1

    def __call__(self, values: Tensor) -> Tensor:
        """Return the values of a layer, or their gradients, as a map N x C x h x w; other tokens are omitted."""
        if self.kind == "NCHW":
            return values
        if self.kind == "NTC":
            values = values[:, self.prefix :]
            if self.order is not None:
                values = values[:, list(self.order)]
            values = values.unflatten(1, self.size)
        return values.permute(0, 3, 1, 2)


class Split(nn.Module):
    """A network in two: `head(features(images))` are its logits, `grid(features)` its last map N x C x h x w.

    Args:
        model: Network with `features(images)` and `head(features)`, as `KneeNet`.
        grid: How the features map to the image.
        layer: The layer whose output is the features; None for the model's own `features`.
        shape: Shape of one image, c x H x W.
    """

    def __init__(self, model: nn.Module, grid: Grid, layer: nn.Module | None, shape: torch.Size) -> None:
        super().__init__()
        self.model, self.grid, self.shape = model, grid, shape
        self.layer = [] if layer is None else [layer]  # in a list, so that it is not registered twice

    def features(self, images: Tensor) -> Tensor:
        """Return the values of the layer, in its own layout, of images N x c x H x W."""
        if not self.layer:
            return self.model.features(images)  # type: ignore[operator]
        return _output_of(self.layer[0], self.model, images)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits that follow from the values of the layer."""
        if not self.layer:
            return self.model.head(features)  # type: ignore[operator]
        # The layers before it run for nothing, on a black image: only timm knows the order of its parts, and what they
        # pass on besides the tokens.
        blank = features.new_zeros(len(features), *self.shape)
        with _hooked(self.layer[0], lambda *_: features.clone()):
            return self.model(blank)


def split(model: nn.Module, images: Tensor) -> tuple[Split, Tensor]:
    """Cut a network at its last map.

    Args:
        model: In eval mode, with `features(images)` and `head(features)`, as `KneeNet`.
        images: Float, N x c x H x W, N at least 1.

    Returns:
        Both parts, and the features of the images.

    Raises:
        InputError: No layer that timm names has a spatial grid and influences the grade.
    """
    net: Any = getattr(model, "net", model)
    with torch.no_grad():
        last = model.features(images)  # type: ignore[operator]
    grid = _grid_of(net, last, images)
    if grid is not None:
        found = Split(model, grid, None, images.shape[1:])
        if grid.kind == "NCHW" or _reaches(found, last[:1]):
            return found, last
    for layer, channels in _stages(net):
        if hasattr(net, "reroll"):
            break  # its earlier tokens have another order
        values = _output_of(layer, model, images[:1])
        grid = _grid_of(net, values, images, channels)
        if grid is None:
            continue
        found = Split(model, grid, layer, images.shape[1:])
        if _reaches(found, values):
            return found, found.features(images)
    shape = tuple(last.shape) if isinstance(last, Tensor) else f"a {type(last).__name__} of several"
    name = getattr(getattr(model, "spec", None), "name", type(model).__name__)
    raise InputError(
        f"model.name={name}: heat maps need a layer with a spatial grid that influences the grade, and timm names none "
        f"in this network (its last feature map is {shape}); {INSTEAD}"
    )


def _grid_of(net: Any, values: Any, images: Tensor, channels: int | None = None) -> Grid | None:
    """Return how a layer's values map to the images; None if they do not."""
    if not isinstance(values, Tensor):
        return None
    height, width = images.shape[-2:]
    channels = channels or getattr(net, "num_features", None)
    if values.ndim == 4:
        last = values.shape[3] == channels != values.shape[1] or str(getattr(net, "output_fmt", "")) == "NHWC"
        rows, columns = values.shape[1:3] if last else values.shape[2:]
        grid = Grid("NHWC" if last else "NCHW", (rows, columns))
        # a map keeps the image's aspect ratio, which reveals channels in an unexpected dimension
        sides = grid.size[0] * width, grid.size[1] * height
        return grid if max(sides) <= 2 * min(sides) else None
    if values.ndim != 3 or (channels != values.shape[2] and getattr(net, "num_features", None) is not None):
        return None
    for prefix in {int(getattr(net, "num_prefix_tokens", None) or 0): None, 0: None}:  # some add theirs at the end
        places = values.shape[1] - prefix
        rows = round(math.sqrt(max(places, 0) * height / width))
        if places > 1 and rows > 0 and places % rows == 0:
            columns = places // rows
            if abs(rows * width - columns * height) <= max(height, width):
                return Grid("NTC", (rows, columns), prefix, _order(net, places))
    return None


def _order(net: Any, places: int) -> tuple[int, ...] | None:
    """Return the token at each place of the last layer, if a network (Hiera) keeps tokens window by window."""
    if not callable(getattr(net, "reroll", None)):
        return None
    tokens = torch.arange(places, dtype=torch.float32).view(1, places, 1)
    return tuple(int(token) for token in net.reroll(tokens, len(net.blocks) - 1).flatten())


def _stages(net: Any) -> Iterator[tuple[nn.Module, int]]:
    """Yield the layers after which timm takes feature maps, the last one first, and how many channels each has."""
    for info in reversed(list(getattr(net, "feature_info", None) or [])):
        try:
            yield net.get_submodule(info["module"]), info["num_chs"]
        except (AttributeError, KeyError, TypeError):  # the name of a step, not of a layer
            continue


def _reaches(found: Split, features: Tensor) -> bool:
    """Return whether any place of the map influences the logits; beside a class token in the last layer, none does."""
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        logits = found.head(leaf)
        if not logits.requires_grad:
            return False
        weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)  # so that no two grades cancel out
        [slopes] = torch.autograd.grad((logits * weights).sum(), leaf)
    return bool((found.grid(slopes) != 0).any())


def _output_of(layer: nn.Module, model: nn.Module, images: Tensor) -> Any:
    """Return what a layer of the model gives for images."""
    seen: list[Any] = []
    with torch.no_grad(), _hooked(layer, lambda _, __, output: seen.append(output)):
        model(images)
    return seen[-1] if seen else None


@contextmanager
def _hooked(layer: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
