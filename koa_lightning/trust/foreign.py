"""Inputs that are no knee as the network knows them: of another kind, upside down, turned, inverted.

Three descriptions of an image are compared with those of the validation part: the coarse picture (where it is bright),
its texture (grain at several scales, gray values), and the network's pooled features. Each by the Mahalanobis distance
(Lee et al. 2018, for the features; one Gaussian instead of one a grade) under a covariance of a few directions and even
variance in the rest (probabilistic principal components, Tipping and Bishop 1999), as there are more dimensions than
knees. An image is as foreign as the worst of its three distances, each divided by a limit such that of knees of
patients who took no part in the fit one in a hundred is above 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from koa_lightning.models.net import KneeNet
from koa_lightning.trust import patients

FLAGGED = 0.01  # share of the validation part's knees that the limit flags
PARTS = ("picture", "texture", "features")
_COARSE = 14  # pixels: the dark joint space and the dark air beside the bone remain
_DIRECTIONS = 48
_TRIMMED = 0.02  # the strangest knees are left out of the fit: one in a hundred of Chen 2018 is inverted
_FIELDS = ("mean", "scale", "directions", "variances", "rest", "limit")
_LARGEST = 250_000  # numbers, 1 MB


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
    coarse = adaptive_avg_pool2d(image, _COARSE).flatten(1)
    coarse = coarse - coarse.mean(1, keepdim=True)
    length = coarse.norm(dim=1, keepdim=True)
    levels = torch.tensor([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
    gray = torch.quantile(image.flatten(1), levels, dim=1).T
    grain = []
    for side in (image.shape[-1], image.shape[-1] // 2, image.shape[-1] // 4, image.shape[-1] // 8, _COARSE):
        small = adaptive_avg_pool2d(image, max(side, 2))
        grain += [small.diff(dim=dim).abs().mean((1, 2, 3)) for dim in (-1, -2)]
    rough = torch.stack([*grain, length[:, 0] / _COARSE], dim=1)
    return coarse / length.clamp(min=1e-3), torch.cat([gray, (rough + 1e-3).log()], dim=1)


def fit(described: Mapping[str, np.ndarray], group: np.ndarray) -> dict[str, Tensor]:
    """Return what a checkpoint keeps: plain tensors under the names `PART.FIELD`.

    Args:
        described: Of `describe`, the validation part.
        group: Of `patients.groups`.
    """
    ratios, limits = cross_fitted(described, group)
    overall = float(np.quantile(ratios, 1 - FLAGGED))
    tensors: dict[str, Tensor] = {}
    for part, values in described.items():
        model = {**_fit_gaussian(values), "limit": np.array(limits[part] * overall)}
        tensors |= {f"{part}.{field}": torch.from_numpy(np.asarray(model[field])).float() for field in _FIELDS}
    return tensors


def cross_fitted(described: Mapping[str, np.ndarray], group: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return the worst ratio of distance to limit of each knee, fitted without its patient, and each part's limit.

    Args:
        described: Of `describe`.
        group: Of `patients.groups`.
    """
    fold = patients.folds(group)
    distances = {part: np.empty(len(group)) for part in described}
    for part, values in described.items():
        for held_out in np.unique(fold):
            inside = fold == held_out
            distances[part][inside] = _distance(values[inside], _fit_gaussian(values[~inside]))
    limits = {part: float(np.quantile(d, 1 - FLAGGED)) for part, d in distances.items()}
    return np.max([d / limits[part] for part, d in distances.items()], axis=0), limits


def scores(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, list[str]]:
    """Return how foreign each image is (float64 N, above 1 is flagged), and the description that says so most.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    ratios = np.array(list(distances(described, tensors).values()))
    return ratios.max(0), [PARTS[row] for row in ratios.argmax(0)]


def distances(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return each description's distance by its limit, float64 N, in the order of `PARTS`.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    ratios = {}
    for part in PARTS:
        model = {field: tensors[f"{part}.{field}"].double().numpy() for field in _FIELDS}
        ratios[part] = _distance(described[part], model) / float(model["limit"])
    return ratios


def wrong(tensors: object) -> str:
    """Return what is wrong with tensors that were read from a file, or an empty string."""
    names = {f"{part}.{field}" for part in PARTS for field in _FIELDS}
    if not isinstance(tensors, dict) or set(tensors) != names:
        return "other entries than " + ", ".join(_FIELDS) + " of " + ", ".join(PARTS)
    if not all(torch.is_tensor(value) and value.dtype == torch.float32 for value in tensors.values()):
        return "not all float32 tensors"
    if sum(value.numel() for value in tensors.values()) > _LARGEST:
        return f"more than {_LARGEST} numbers"
    for part in PARTS:
        mean, scale, directions, variances, rest, limit = (tensors[f"{part}.{field}"] for field in _FIELDS)
        shapes = mean.ndim == 1 and scale.shape == mean.shape and directions.shape == (len(variances), len(mean))
        if not shapes or rest.ndim or limit.ndim:
            return f"{part}: shapes that do not fit"
        if not all(bool(torch.isfinite(value).all()) for value in (mean, directions)):
            return f"{part}: numbers that are not finite"
        if not all(bool((value > 0).all() & torch.isfinite(value).all()) for value in (scale, variances, rest, limit)):
            return f"{part}: scales and limits that are not positive"
    return ""


def _fit_gaussian(values: np.ndarray) -> dict[str, np.ndarray]:
    """Fit twice, the second time without the strangest knees of the first."""
    first = _fit_once(values)
    distance = _distance(values, first)
    return _fit_once(values[distance <= np.quantile(distance, 1 - _TRIMMED)])


def _fit_once(values: np.ndarray) -> dict[str, np.ndarray]:
    n, size = values.shape
    mean, spread = values.mean(0), values.std(0)
    scale = np.maximum(spread, 1e-3 * max(float(spread.max()), 1e-6))
    _, singular, directions = np.linalg.svd((values - mean) / scale, full_matrices=False)
    variances = singular**2 / max(n - 1, 1)
    kept = max(1, min(_DIRECTIONS, n // 8, size - 1))
    rest = max(float(variances[kept:].sum()) / (size - kept), 1e-3 * float(variances[0]))
    return {
        "mean": mean,
        "scale": scale,
        "directions": directions[:kept],
        "variances": np.maximum(variances[:kept], rest),
        "rest": np.array(rest),
    }


def _distance(values: np.ndarray, model: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the Mahalanobis distance a dimension, float64 N: about 1 for knees that took part in the fit."""
    apart = (values - model["mean"]) / model["scale"]
    along = apart @ model["directions"].T
    beside = np.maximum((apart**2).sum(1) - (along**2).sum(1), 0)
    squared = (along**2 / model["variances"]).sum(1) + beside / float(model["rest"])
    return np.sqrt(squared / values.shape[1])
