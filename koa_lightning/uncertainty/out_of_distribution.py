"""Out-of-distribution inputs, no knee as the network knows them: of another kind, upside down, turned, inverted.

Three descriptions of an image are compared with those of the validation split: the coarse picture (where it is bright)
and its texture (grain at several scales, gray values) by Mahalanobis distances (`gaussian`), and the network's pooled
features by the angle to those of known knees (`neighbours`); each is divided by a limit that one knee in two hundred
exceeds, of patients who took no part in the fit. The orientation check asks the coarse picture by
discriminants whether a knee is turned or inverted.

Three cases are kept apart. What the network's features or the orientation check find beyond their limit is no knee, or
none that is upright. A coarse picture or a texture beyond its limit is a knee of another acquisition: another detector,
exposure, crop or archive, for which calibration may not hold; only from twice its limit on is it no knee either.
An image's score is the worst of the four, these two halved; above 1 it is flagged. (A knee that the network is unsure
of is the third case, see `selective_prediction`.)
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
_ACQUISITION = {"picture": 0.5, "texture": 0.5}  # their weight in the score: other archives show knees otherwise
_WEIGHTS = {component: _ACQUISITION.get(component, 1.0) for component in COMPONENTS}
_BEYOND = 0.005  # share of the validation split's knees that are beyond the limit of one of the distances


@contextmanager
def watching(net: KneeNet) -> Iterator[list[Tensor]]:
    """Collect the pooled features (float32 N x C, on the CPU) of every batch that the network grades meanwhile."""
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
    """Return the descriptions of images under their names, float64 N x D each.

    Args:
        images: Batches uint8 n x 1 x H x W.
        features: Of the same batches, from `watching`.
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
    """Return what a checkpoint keeps: plain tensors under the names `PART.FIELD`.

    Args:
        described: Of `describe`, the validation split.
        group: Of `patients.groups`.
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
        described: Of `describe`.
        group: Of `patients.groups`.
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
    # few knees are distinguished well by chance: then the limit is what most of those omitted stay below
    limits[ORIENTATION] = max(1.0, float(np.quantile(upright, orientation.ORDINARY)))
    ratios = {ORIENTATION: upright, **distances}
    return np.max([_WEIGHTS[name] * values / limits[name] for name, values in ratios.items()], axis=0), limits


def scores(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, list[str]]:
    """Return the score of each image (float64 N, above 1 is flagged), and the component that says so most.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    ratios = np.array([_WEIGHTS[name] * values for name, values in by_component(described, tensors).items()])
    return ratios.max(0), [COMPONENTS[row] for row in ratios.argmax(0)]


def acquisitions(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return of each image what is of another acquisition than the validation split: `picture`, `texture`, or empty.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    found = by_component(described, tensors)
    ratios = np.array([found[component] for component in _ACQUISITION])
    worst = np.array(list(_ACQUISITION))[ratios.argmax(0)]
    return [str(component) if value > 1 else "" for component, value in zip(worst, ratios.max(0), strict=True)]


def by_component(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return what each of `COMPONENTS` says, float64 N: 1 is its limit.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    known = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    models = {
        component: {field: known[f"{component}.{field}"] for field in fields} for component, fields in FIELDS.items()
    }
    said = {ORIENTATION: orientation.ratio(described["picture"], models[ORIENTATION])}
    said |= {component: kind.distance(described[component], models[component]) for component, kind in DISTANT.items()}
    return {component: values / float(known[f"{component}.limit"]) for component, values in said.items()}
