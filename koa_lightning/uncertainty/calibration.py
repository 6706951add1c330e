"""Recalibration of grade probabilities with one or two parameters, fitted on the validation part alone.

`temperature` divides the logits by one number (Guo et al. 2017); the most probable grade of a softmax stays. `ordinal`
scales and shifts the cumulative logits log P(y > k) / P(y <= k) of all four thresholds alike, which keeps their order:
Cox's (1958) intercept and slope, under proportional odds (McCullagh 1980; for predicted ordinal risks Edlinger et al.
2022). It can move all knees up or down, which temperature cannot, and may so change the most probable grade.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import logsigmoid

from koa_lightning.models import outputs
from koa_lightning.uncertainty import patients

PARAMETERS = {"none": (), "temperature": ("temperature",), "ordinal": ("scale", "shift")}
METHODS = tuple(PARAMETERS)
LOWEST, HIGHEST = 0.05, 20.0  # of temperature and scale: a part that is graded without a mistake would ask for 0
_LARGEST_SHIFT = 10.0
_POSITIVE = ("temperature", "scale")


def probabilities(logits: Tensor, link: str, entry: Mapping[str, Any] | None = None) -> Tensor:
    """Return the grade probabilities of logits, recalibrated; plain torch operations, so that it can be exported.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        entry: `method` and `parameters` as `fit` returns them; None, or `left_out` in it: the raw probabilities.

    Returns:
        N x 5 float32 in [0, 1], rows sum to 1 up to rounding.
    """
    if entry is None or entry.get("method", "none") == "none":
        return outputs.probabilities(logits, link)
    values = [logits.new_tensor(entry["parameters"][name], dtype=torch.float32) for name in _names(entry["method"])]
    return _log_recalibrated(logits.float(), link, entry["method"], values).exp().clamp(max=1.0)


def fit(logits: Tensor, link: str, grade: np.ndarray, method: str) -> dict[str, Any]:
    """Return `method` and `parameters` with the lowest mean log loss; the same for the same input.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        grade: Integer true grade, N, 0 to 4.
        method: `none`, `temperature` or `ordinal`.
    """
    names = _names(method)
    if not names:
        return {"method": method, "parameters": {}}
    exact, true = logits.double(), torch.from_numpy(grade.astype(np.int64))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        logs = _log_recalibrated(exact, link, method, _bounded(names, free))
        mean = -logs.gather(1, true[:, None]).mean()
        mean.backward()
        assert free.grad is not None
        return float(mean.detach()), free.grad.numpy()

    bounds = [_bounds(name) for name in names]
    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12})
    values = _bounded(names, torch.from_numpy(found.x))
    return {"method": method, "parameters": {name: float(v) for name, v in zip(names, values, strict=True)}}


def cross_fitted(logits: Tensor, link: str, grade: np.ndarray, group: np.ndarray, method: str) -> Tensor:
    """Return probabilities (N x 5 float32) of which each is recalibrated without its patient: in five folds.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        grade: Integer true grade, N, 0 to 4.
        group: Of `patients.groups`.
        method: See `fit`.
    """
    fold, given = patients.folds(group), torch.empty(len(logits), outputs.N_GRADES)
    for held_out in np.unique(fold):
        inside = torch.from_numpy(fold == held_out)
        entry = fit(logits[~inside], link, grade[fold != held_out], method)
        given[inside] = probabilities(logits[inside], link, entry)
    return given


def wrong(entry: Any) -> str:
    """Return what is wrong with an entry that was read from a file, or an empty string."""
    if not isinstance(entry, dict) or entry.get("method") not in METHODS:
        return f"method: one of {', '.join(METHODS)} is wanted"
    names, values = _names(entry["method"]), entry.get("parameters")
    if not isinstance(values, dict) or set(values) != set(names):
        return f"parameters: {', '.join(names) or 'none'} wanted"
    for name, value in values.items():
        low, high = (LOWEST, HIGHEST) if name in _POSITIVE else (-_LARGEST_SHIFT, _LARGEST_SHIFT)
        if not isinstance(value, float) or not low * (1 - 1e-6 * np.sign(low)) <= value <= high * (1 + 1e-6):
            return f"parameters.{name}={value!r}: a number from {low:g} to {high:g} is wanted"
    return ""


def in_words(entry: Mapping[str, Any]) -> str:
    """Return method and parameters: `temperature 1.189`, `ordinal (scale 1.015, shift 0.647)`, `none`.

    Args:
        entry: Of `fit`.
    """
    values = entry["parameters"]
    if len(values) < 2:
        return " ".join([entry["method"], *(f"{value:.3f}" for value in values.values())])
    return f"{entry['method']} ({', '.join(f'{name} {value:.3f}' for name, value in values.items())})"


def _names(method: str) -> tuple[str, ...]:
    return PARAMETERS[method]


def _bounds(name: str) -> tuple[float, float]:
    """Return the bounds of what the optimiser varies: a positive parameter by its logarithm."""
    if name in _POSITIVE:
        return float(np.log(LOWEST)), float(np.log(HIGHEST))
    return -_LARGEST_SHIFT, _LARGEST_SHIFT


def _bounded(names: tuple[str, ...], free: Tensor) -> list[Tensor]:
    return [free[i].exp() if name in _POSITIVE else free[i] for i, name in enumerate(names)]


def _log_recalibrated(logits: Tensor, link: str, method: str, values: list[Tensor]) -> Tensor:
    if method == "temperature":
        return outputs.log_probabilities(logits / values[0], link)
    scale, shift = values
    return _log_shares(scale * _cumulative(outputs.log_probabilities(logits, link)) + shift)


def _cumulative(logs: Tensor) -> Tensor:
    """Return the cumulative logits log P(y > k) / P(y <= k), k = 0 ... 3, falling, of log probabilities N x 5."""
    above = logs.flip(1).logcumsumexp(1).flip(1)
    return above[:, 1:] - logs.logcumsumexp(1)[:, :-1]


def _log_shares(cumulative: Tensor) -> Tensor:
    """Return log probabilities N x 5 of falling cumulative logits N x 4.

    s(u) - s(v) = s(u) s(-v) (1 - exp(v - u)) for the logistic function s: no cancellation.
    """
    first, last = logsigmoid(-cumulative[:, :1]), logsigmoid(cumulative[:, -1:])
    upper, lower = cumulative[:, :-1], cumulative[:, 1:]
    gap = (-torch.expm1(lower - upper)).clamp(min=torch.finfo(cumulative.dtype).tiny).log()
    return torch.cat([first, logsigmoid(upper) + logsigmoid(-lower) + gap, last], dim=1)
