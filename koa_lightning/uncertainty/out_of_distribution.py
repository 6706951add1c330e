"""Inputs that are no knee as the network knows them: of another kind, upside down, turned, inverted.

Three descriptions of an image are compared with those of the validation part: the coarse picture (where it is bright)
and its texture (grain at several scales, gray values) by Mahalanobis distances (`gaussian`), and the network's pooled
features by the angle to those of known knees (`neighbours`); each is divided by a limit that one knee in two hundred
exceeds, of patients who took no part in the fit. Whether a knee is turned or inverted is asked of the coarse picture by
discriminants (`posture`). An image is as foreign as the worst of the four says; above 1 it is flagged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from koa_lightning.models.net import KneeNet
from koa_lightning.uncertainty import gaussian, neighbours, orientation, patients

DISTANT: dict[str, ModuleType] = {"picture": gaussian, "texture": gaussian, "features": neighbours}
PARTS = ("posture", *DISTANT)
_BEYOND = 0.005  # share of the validation part's knees that are beyond the limit of one of the distances
_COARSE = 14  # pixels: the dark joint space and the dark air beside the bone remain
_FIELDS = {"posture": orientation.FIELDS, **{part: model.FIELDS for part, model in DISTANT.items()}}
_NAMES = tuple(f"{part}.{field}" for part in PARTS for field in (*_FIELDS[part], "limit"))
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
    _, limits = cross_fitted(described, group)
    models = {"posture": orientation.fit(described["picture"])}
    models |= {part: kind.fit(described[part]) for part, kind in DISTANT.items()}
    found = {f"{part}.{field}": values for part, model in models.items() for field, values in model.items()}
    found |= {f"{part}.limit": np.array(limits[part]) for part in PARTS}
    return {name: torch.from_numpy(np.array(values)).float() for name, values in found.items()}


def cross_fitted(described: Mapping[str, np.ndarray], group: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Return how foreign each knee is, fitted without its patient (float64 N), and the limit of each part.

    Args:
        described: Of `describe`.
        group: Of `patients.groups`.
    """
    fold, n = patients.folds(group), len(group)
    upright, distances = np.empty(n), {part: np.empty(n) for part in DISTANT}
    for held_out in np.unique(fold):
        inside = fold == held_out
        pictures = described["picture"]
        upright[inside] = orientation.ratio(pictures[inside], orientation.fit(pictures[~inside]))
        for part, kind in DISTANT.items():
            model = kind.fit(described[part][~inside])
            distances[part][inside] = kind.distance(described[part][inside], model)
    limits = {part: max(float(np.quantile(values, 1 - _BEYOND)), 1e-6) for part, values in distances.items()}
    # few knees are told apart well by chance: then the limit is what most of those left out stay below
    limits["posture"] = max(1.0, float(np.quantile(upright, orientation.ORDINARY)))
    ratios = {"posture": upright, **distances}
    return np.max([values / limits[part] for part, values in ratios.items()], axis=0), limits


def scores(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> tuple[np.ndarray, list[str]]:
    """Return how foreign each image is (float64 N, above 1 is flagged), and the part that says so most.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    ratios = np.array(list(by_part(described, tensors).values()))
    return ratios.max(0), [PARTS[row] for row in ratios.argmax(0)]


def by_part(described: Mapping[str, np.ndarray], tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return what each of `PARTS` says, float64 N: 1 is its limit.

    Args:
        described: Of `describe`.
        tensors: Of `fit`.
    """
    known = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    models = {part: {field: known[f"{part}.{field}"] for field in fields} for part, fields in _FIELDS.items()}
    said = {"posture": orientation.ratio(described["picture"], models["posture"])}
    said |= {part: kind.distance(described[part], models[part]) for part, kind in DISTANT.items()}
    return {part: values / float(known[f"{part}.limit"]) for part, values in said.items()}


def wrong(tensors: object) -> str:
    """Return what is wrong with tensors that were read from a file, or an empty string."""
    if not isinstance(tensors, dict) or set(tensors) != set(_NAMES):
        return f"other entries than {', '.join(_NAMES)}"
    if not all(torch.is_tensor(value) and value.dtype == torch.float32 for value in tensors.values()):
        return "not all float32 tensors"
    if sum(value.numel() for value in tensors.values()) > _LARGEST:
        return f"more than {_LARGEST} numbers"
    if name := next((name for name, value in tensors.items() if not bool(torch.isfinite(value).all())), None):
        return f"{name} is not finite"
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if name := next((name for name in _NAMES if name.endswith(".limit") and shapes[name] != ()), None):
        return f"{name} is not one number"
    lowest = {"posture": 1.0, **dict.fromkeys(DISTANT, 1e-9)}
    if part := next((part for part in PARTS if float(tensors[f"{part}.limit"]) < lowest[part]), None):
        return f"{part}.limit is too small"
    size, ways = _COARSE**2, len(orientation.WAYS)
    if (shapes["posture.weights"], shapes["posture.offsets"]) != ((ways, size), (ways,)):
        return "posture: shapes that do not fit"
    if len(shapes["features.prototypes"]) != 2 or 0 in shapes["features.prototypes"]:
        return "features: shapes that do not fit"
    for part in ("picture", "texture"):
        mean, scale, directions, variances, rest = (tensors[f"{part}.{field}"] for field in gaussian.FIELDS)
        fits = mean.ndim == 1 and scale.shape == mean.shape and directions.shape == (len(variances), len(mean))
        if not fits or rest.ndim or (part == "picture" and len(mean) != size):
            return f"{part}: shapes that do not fit"
        if not all(bool((value > 0).all()) for value in (scale, variances, rest)):
            return f"{part}: scales that are not positive"
    return ""
