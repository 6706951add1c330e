"""The methods of pytorch-grad-cam, on a network that is cut at its last map.

Hooks are placed on an extra layer between `features` and `head`, never on the network, and the backbone runs once. Each
deviation from the library is explained where it is made.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import (
    AblationCAM,
    EigenCAM,
    GradCAM,
    GradCAMPlusPlus,
    LayerCAM,
    ScoreCAM,
    ablation_cam,
    score_cam,
)
from pytorch_grad_cam.ablation_layer import AblationLayer
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn

from koa_lightning.config import heat_maps
from koa_lightning.config.instantiate import located
from koa_lightning.errors import InputError
from koa_lightning.explain.evidence import evidence
from koa_lightning.explain.last_map import Split

_CHANNELS = 64  # tried in one pass


class _Rest(nn.Module):
    """The part of the network after the last map, with an extra layer for the hooks."""

    def __init__(self, net: Split) -> None:
        super().__init__()
        self.net = net
        self.last_map = nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        return self.net.head(self.last_map(features))


class _Whole(_Rest):
    """The whole network, starting at the image."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(self.net.features(image))


class _Sloped:
    """The differentiated target: the logits times the evidence's slopes, which has the gradient of the evidence."""

    def __init__(self, steps: Tensor) -> None:
        self.steps = steps

    def __call__(self, logits: Tensor) -> Tensor:
        return (logits * self.steps).sum()


class _Number:
    """The evidence itself, for methods that only look at it."""

    def __init__(self, grade: int | None, target: str, link: str) -> None:
        self.how = [grade], target, link

    def __call__(self, logits: Tensor) -> Tensor:
        return evidence(logits[None], *self.how)[0]


class _Loss(_Number):
    """The evidence, shifted so that it is 1 for the whole image.

    Ablation-CAM divides the loss by the original value, which would invert the map of a logit below 0.
    """

    whole: float | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        number = super().__call__(logits)
        if self.whole is None:  # the library asks for the whole image first
            self.whole = float(number)
        return 1 + number - self.whole


class _EigenCAM(EigenCAM):
    """The first principal component; the library computes them all, and leaves the sign to chance."""

    def get_cam_image(self, input_tensor: Any, target_layer: Any, targets: Any, activations: Any, *_: Any) -> Any:
        places = torch.from_numpy(np.asarray(activations)).flatten(2).transpose(1, 2)  # N x hw x C
        places = places - places.mean(1, keepdim=True)
        _, _, components = torch.linalg.svd(places, full_matrices=False)
        maps = (places @ components[:, 0, :, None])[..., 0]
        largest = maps.gather(1, maps.abs().argmax(1, keepdim=True))
        return (maps * largest.sign()).view(len(maps), *activations.shape[2:]).numpy()


class _ScoreCAM(ScoreCAM):
    """Releases the maps of its passes; the library keeps every one: 0.3 GB per image."""

    def get_cam_weights(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.activations_and_grads.release()
        return super().get_cam_weights(*args, **kwargs)


class _Zero(AblationLayer):
    """Sets a channel to 0, as in the paper; the library sets it to -10,000,000 where a map has values below 0."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.channel = channel

    def set_next_batch(self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int) -> None:
        # tokens beside the grid, such as a class token, stay unchanged: they are not part of the map
        self.activations = torch.stack([activations[input_batch_index]] * num_channels_to_ablate)

    def __call__(self, features: Tensor) -> Tensor:
        rows = torch.arange(len(self.activations))
        self.activations.movedim(self.channel, 1)[rows, torch.as_tensor(self.indices[: len(rows)]).long()] = 0
        return self.activations


def _opened(kind: type[BaseCAM], model: Split, size: tuple[int, int] | None, rest: type[_Rest] = _Rest) -> Any:
    """Return a method of the library that works on the last map, whatever its layout.

    It needs no `with`, which would print an IndexError and continue: its hooks are on a layer that only it owns.

    Args:
        kind: The method's class.
        model: The network.
        size: Size of the maps; None: that of the input, which is an image.
        rest: The part of the network that the method runs.
    """
    part = rest(model)
    more = {"ablation_layer": _Zero(model.grid.channel), "batch_size": _CHANNELS} if kind is AblationCAM else {}
    cam: Any = kind(model=part, target_layers=[part.last_map], reshape_transform=model.grid, **more)
    if size is not None:
        cam.get_target_width_height = lambda _: size[::-1]  # tokens have no width for the library to read
    return cam


def _by_slopes(kind: type[BaseCAM]) -> Callable[..., np.ndarray]:
    """Return the maps of a method that differentiates at the last map."""

    def heat(model: Split, batch: Tensor, features: Tensor, steps: Tensor, *_: Any) -> np.ndarray:
        cam = _opened(kind, model, model.grid.size)
        return cam(input_tensor=features.detach().requires_grad_(), targets=[_Sloped(row) for row in steps.detach()])

    return heat


def ablationcam(
    model: Split, batch: Tensor, features: Tensor, steps: Tensor, wanted: Any, target: str, link: str
) -> np.ndarray:
    """Return the maps of Ablation-CAM (Desai 2020), see `function`."""
    cam = _opened(AblationCAM, model, model.grid.size)
    with _no_bars():
        return cam(input_tensor=features, targets=[_Loss(grade, target, link) for grade in wanted])


def scorecam(
    model: Split, batch: Tensor, features: Tensor, steps: Tensor, wanted: Any, target: str, link: str
) -> np.ndarray:
    """Return the maps of Score-CAM (Wang 2020): about 1,300 passes through the network per image, see `function`."""
    maps = []
    for image, grade in zip(batch.split(1), wanted, strict=True):  # one image needs a copy per channel: 0.3 GB
        cam = _opened(_ScoreCAM, model, None, _Whole)
        cam.batch_size = _CHANNELS
        with _no_bars():
            maps.append(cam(input_tensor=image, targets=[_Number(grade, target, link)]))
    return np.concatenate(maps)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the library's progress bars, one per image."""
    places: list[Any] = [ablation_cam, score_cam]
    real = [place.tqdm for place in places]
    for place in places:
        place.tqdm = SimpleNamespace(tqdm=lambda items: items)
    try:
        yield
    finally:
        for place, bar in zip(places, real, strict=True):
            place.tqdm = bar


def function(method: str) -> Callable[..., np.ndarray]:
    """Return the function that the config `explain/NAME.yaml` names for a method.

    It is called as `heat(model, images, features, slopes, grades, target, link)`: the network in two halves
    (`features(images)`, and `head(features)`, which gives the logits), images float N x 1 x H x W, their features
    (N x C x h x w in a convolutional network; `model.grid(features)` also turns tokens into this), the slopes of the
    evidence by the logits N x K, the grades to explain (N; None: the predicted one), and how to explain them.
    It returns float N x h x w on the network's own grid or larger; values below 0 count as 0.

    Raises:
        InputError: There is no such method, or its function cannot be imported.
    """
    found = heat_maps.declared()
    if method not in found:
        raise InputError(f"explain.method={method}: must be one of {', '.join(found)}")
    heat: Callable[..., np.ndarray] = located(found[method].target, found[method].file)
    return heat


def label(method: str, target: str) -> str:
    """Return the title of maps in a figure."""
    title = heat_maps.titles().get(method, method)
    return f"{title} of {'a higher grade' if target == 'expected' else 'the predicted grade'}"


gradcam = _by_slopes(GradCAM)  # Selvaraju 2017
gradcam_plus_plus = _by_slopes(GradCAMPlusPlus)  # Chattopadhay 2018
layercam = _by_slopes(LayerCAM)  # Jiang 2021
eigencam = _by_slopes(_EigenCAM)  # Muhammad 2020: depends on the map alone, not on the grade
