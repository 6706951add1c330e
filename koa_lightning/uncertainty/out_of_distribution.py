"""Out-of-distribution inputs: images without a knee, and knees that are upside down, turned or inverted.

Three descriptions of an image are compared with those of the validation split: the coarse picture (where it is bright)
and its texture (grain at several scales, gray values) by Mahalanobis distances (`gaussian`), and the network's pooled
features by the angle to those of known knees (`neighbours`). Each distance is divided by a limit, which one in two
hundred knees exceeds when its patient is held out of the fit. The orientation check applies discriminants to the coarse
picture to find turned and inverted knees.

Three cases are distinguished. Features or orientation beyond their limit: not a knee, or not an upright one. Coarse
picture or texture beyond its limit: a knee of another acquisition (detector, exposure, crop or archive), for which
calibration may not hold; beyond twice the limit, it does not count as a knee either. A knee that the network is unsure
of: see `selective_prediction`.

An image's score is the largest of the four ratios, with coarse picture and texture halved; above 1 it is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from koa_lightning.checkpoint.reference import COARSE, FIELDS
from koa_lightning.models.net import KneeNet
from koa_lightning.uncertainty import gaussian, neighbours, orientation, patients

DISTANT: dict[str, ModuleType] = {"picture": gaussian, "texture": gaussian, "features": neighbours}
ORIENTATION = "posture"  # files and tables keep this name
COMPONENTS = (ORIENTATION, *DISTANT)
_ACQUISITION = {"picture": 0.5, "texture": 0.5}  # weights in the score: other archives' knees look different
_WEIGHTS = {component: _ACQUISITION.get(component, 1.0) for component in COMPONENTS}
_BEYOND = 0.005  # share of the validation split's knees beyond the limit of each distance


@contextmanager
def watching(net: KneeNet) -> Iterator[list[Tensor]]:
    """Collect the pooled features (float32 N x C, on the CPU) of every batch that the network grades inside it."""
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with torch.no_grad():
            pooled = net.net.forward_head(output, pre_logits=True)  # type: ignore[operator]
        seen.append(pooled.flatten(1).float().cpu())

    hook = net.last_map.register_forward_hook(keep)
    try:
        yield seen
    finally:
        hook.remove()


def describe(images: Iterable[Tensor], features: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Return the descriptions of images by name, float64 N x D each.

    Args:
        images: Batches uint8 n x 1 x H x W.
        features: Features of the same batches, from `watching`.
    """
    pictures, textures = zip(*(_look(batch) for batch in images), strict=True)
    parts = {"picture": pictures, "texture": textures, "features": list(features)}
    return {name: torch.cat(list(batches)).double().numpy() for name, batches in parts.items()}


def _look(batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return coarse picture (n x 196, mean 0, length 1) and texture (n x 18) of images uint8 n x 1 x H x W."""
    image = batch.float() / 255
    coarse = adaptive_avg_pool2d(image, COARSE).flatten(1)
    coarse = coarse - coarse.mean(1, keepdim=True)
    length = coarse.norm(dim=1, keepdim=True)
    levels = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    gray = torch.quantile(image.flatten(1), levels, dim=1).T
    grain = []
    for side in (image.shape[-1], image.shape[-1] // 2, image.shape[-1] // 4, image.shape[-1] // 8, COARSE):
        small = adaptive_avg_pool2d(image, max(side, 2))
        grain += [small.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (-1, -2)]
    rough = torch.stack([*grain, length[:, 0] / COARSE], dim=1)
    return coarse / length.clamp(min=1e-3), torch.cat([gray, (rough + 1e-3).log()], dim=1)


def fit(described: Mapping[str, np.ndarray], group: np.ndarray) -> dict[str, Tensor]:
    """Return the reference that a checkpoint stores: plain tensors named `COMPONENT.FIELD`.

    Args:
        described: From `describe`, for the validation split.
        group: From `patients.groups`.
    """
    _, limits = cross_fitted(described, group)
    models = {ORIENTATION: orientation.fit(described["picture"])}
    models |= {component: kind.fit(described[component]) for component, kind in DISTANT.items()}
    found = {f"{component}.{field}": values for component, model in models.items() for field, values in model.items()}
    found |= {f"{component}.limit": np.array(limits[component]) for component in COMPONENTS}
    return {name: torch.from_numpy(np.array(values)).float() for name, values in found.items()}


def cross_fitted(described: Mapping[str, np.ndarray], group: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return the score of each knee, fitted without its patient (float64 N), and the limit of each component.

    Args:
        described: From `describe`.
        group: From `patients.groups`.
    """
    fold, n = patients.folds(group), len(group)
    upright, distances = np.empty(n), {component: np.empty(n) for component in DISTANT}
    for held_out in np.unique(fold):
        inside = fold == held_out
        pictures = described["picture"]
        upright[inside] = orientation.ratio(pictures[inside], orientation.fit(pictures[~inside]))
        for component, kind in DISTANT.items():
            model = kind.fit(described[component][~inside])
            distances[component][inside] = kind.distance(described[component][inside], model)
    limits = {component: max(float(np.quantile(values, 1 - _BEYOND)), 1e-6) for component, values in distances.items()}
    # with few knees a fit separates well by chance: then the limit is raised until most held-out knees are below it
    limits[ORIENTATION] = max(1.0, float(np.quantile(upright, orientation.ORDINARY)))
    ratios = {ORIENTATION: upright, **distances}
    return np.max([_WEIGHTS[name] * values / limits[name] for name, values in ratios.items()], axis=0), limits


def scores(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, list[str]]:
    """Return the score of each image (float64 N, above 1 is flagged) and the component that decides it.

    Args:
        described: From `describe`.
        tensors: From `fit`.
    """
    ratios = np.array([_WEIGHTS[name] * values for name, values in by_component(described, tensors).items()])
    return ratios.max(0), [COMPONENTS[row] for row in ratios.argmax(0)]


def acquisitions(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return what shows another acquisition than the validation split in each image: `picture`, `texture`, or empty.

    Args:
        described: From `describe`.
        tensors: From `fit`.
    """
    found = by_component(described, tensors)
    ratios = np.array([found[component] for component in _ACQUISITION])
    worst = np.array(list(_ACQUISITION))[ratios.argmax(0)]
    return [str(component) if value > 1 else "" for component, value in zip(worst, ratios.max(0), strict=True)]


def by_component(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the distance by each of `COMPONENTS`, float64 N, as a multiple of its limit.

    Args:
        described: From `describe`.
        tensors: From `fit`.
    """
    known = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    models = {
        component: {field: known[f"{component}.{field}"] for field in fields} for component, fields in FIELDS.items()
    }
    said = {ORIENTATION: orientation.ratio(described["picture"], models[ORIENTATION])}
    said |= {component: kind.distance(described[component], models[component]) for component, kind in DISTANT.items()}
    return {component: values / float(known[f"{component}.limit"]) for component, values in said.items()}
