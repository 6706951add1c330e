"""Tensors that describe the knees of the validation split, to recognise out-of-distribution inputs.

They are stored beside the record, which holds only plain values. `koa_lightning.uncertainty.out_of_distribution` fits
and applies them.
"""

from __future__ import annotations

import torch

TENSORS = "koa_lightning_inputs"
"""Their key in the file."""
GAUSSIAN = ("mean", "scale", "directions", "variances", "rest")
FIELDS = {  # `posture` is the orientation check; files keep that name
    "posture": ("weights", "offsets"),
    "picture": GAUSSIAN,
    "texture": GAUSSIAN,
    "features": ("prototypes",),
}
COARSE = 14  # pixels of the coarse picture's side
N_ORIENTATIONS = 6  # wrong ones, to be distinguished from an upright knee
_NAMES = tuple(f"{component}.{field}" for component, fields in FIELDS.items() for field in (*fields, "limit"))
_LARGEST = 250_000  # numbers, 1 MB


def wrong(tensors: object) -> str:
    """Return what is wrong with tensors that were read from a file, or an empty string."""
    if not isinstance(tensors, dict) or set(tensors) != set(_NAMES):
        return f"its entries are not {', '.join(_NAMES)}"
    if not all(torch.is_tensor(value) and value.dtype == torch.float32 for value in tensors.values()):
        return "not all entries are float32 tensors"
    if sum(value.numel() for value in tensors.values()) > _LARGEST:
        return f"more than {_LARGEST} numbers"
    if name := next((name for name, value in tensors.items() if not bool(torch.isfinite(value).all())), None):
        return f"{name} is not finite"
    return _wrong_limits(tensors) or _wrong_shapes(tensors)


def _wrong_limits(tensors: dict[str, torch.Tensor]) -> str:
    for component in FIELDS:
        if tensors[f"{component}.limit"].shape != ():
            return f"{component}.limit is not one number"
    lowest = {**dict.fromkeys(FIELDS, 1e-9), "posture": 1.0}
    small = [component for component in FIELDS if float(tensors[f"{component}.limit"]) < lowest[component]]
    return f"{small[0]}.limit is too small" if small else ""


def _wrong_shapes(tensors: dict[str, torch.Tensor]) -> str:
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    size = COARSE**2
    if (shapes["posture.weights"], shapes["posture.offsets"]) != ((N_ORIENTATIONS, size), (N_ORIENTATIONS,)):
        return "posture: its shapes do not fit"
    if len(shapes["features.prototypes"]) != 2 or 0 in shapes["features.prototypes"]:
        return "features: its shapes do not fit"
    for component in ("picture", "texture"):
        mean, scale, directions, variances, rest = (tensors[f"{component}.{field}"] for field in GAUSSIAN)
        fits = mean.ndim == 1 and scale.shape == mean.shape and directions.shape == (len(variances), len(mean))
        if not fits or rest.ndim or (component == "picture" and len(mean) != size):
            return f"{component}: its shapes do not fit"
        if not all(bool((value > 0).all()) for value in (scale, variances, rest)):
            return f"{component}: its scales are not positive"
    return ""
