"""Recalibration of grade probabilities with one to five parameters, fitted on the validation split alone.

`temperature` divides the logits by one number (Guo et al. 2017); it does not change the most probable grade of a
softmax. `ordinal` scales and shifts the cumulative logits log P(y > k) / P(y <= k) of all four thresholds alike, which
keeps their order: Cox's (1958) intercept and slope, under proportional odds (McCullagh 1980; for predicted ordinal
risks Edlinger et al. 2022). Unlike temperature, it can move all knees up or down and so change the most probable grade.
`bias` scales the log probabilities and adds a number for each grade (bias-corrected temperature scaling, Alexandari et
al. 2020): it can raise a grade that the network predicts too seldom, such as grade 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from koa_lightning.checkpoint.fitted import HIGHEST, LARGEST_SHIFT, LOWEST, PARAMETERS, POSITIVE, Calibration
from koa_lightning.models import outputs
from koa_lightning.uncertainty import patients
from koa_lightning.uncertainty.recalibrated import log_recalibrated, probabilities


def fit(logits: Tensor, link: str, grade: np.ndarray, method: str) -> Calibration:
    """Return the parameters with the lowest mean log loss; the fit is deterministic.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        grade: Integer true grade, N, 0 to 4.
        method: One of `METHODS`.
    """
    names = PARAMETERS[method]
    if not names:
        return Calibration(method=method)
    exact, true = logits.double(), torch.from_numpy(grade.astype(np.int64))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        logs = log_recalibrated(exact, link, method, _bounded(names, free))
        mean = -logs.gather(1, true[:, None]).mean()
        mean.backward()
        assert free.grad is not None
        return float(mean.detach()), free.grad.numpy()

    bounds = [_bounds(name) for name in names]
    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-12})
    values = _bounded(names, torch.from_numpy(found.x))
    return Calibration(method=method, parameters={name: float(v) for name, v in zip(names, values, strict=True)})


def cross_fitted(logits: Tensor, link: str, grade: np.ndarray, group: np.ndarray, method: str) -> Tensor:
    """Return probabilities (N x 5 float32), each recalibrated by a fit without its patient, in five folds.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        grade: Integer true grade, N, 0 to 4.
        group: From `patients.groups`.
        method: See `fit`.
    """
    fold, given = patients.folds(group), torch.empty(len(logits), outputs.N_GRADES)
    for held_out in np.unique(fold):
        inside = torch.from_numpy(fold == held_out)
        entry = fit(logits[~inside], link, grade[fold != held_out], method)
        given[inside] = probabilities(logits[inside], link, entry)
    return given


def in_words(method: str, parameters: Mapping[str, float]) -> str:
    """Return method and parameters: `temperature 1.189`, `ordinal (scale 1.015, shift 0.647)`, `none`.

    Args:
        method: See `fit`.
        parameters: The method's parameters, by name.
    """
    if method == "bias":
        biases = ", ".join(f"{parameters[name]:+.2f}" for name in PARAMETERS["bias"][1:])
        return f"bias (scale {parameters['scale']:.3f}, grades 1 to 4 {biases})"
    if len(parameters) < 2:
        return " ".join([method, *(f"{value:.3f}" for value in parameters.values())])
    return f"{method} ({', '.join(f'{name} {value:.3f}' for name, value in parameters.items())})"


def _bounds(name: str) -> tuple[float, float]:
    """Return the bounds for the optimiser, which varies the logarithm of a positive parameter."""
    if name in POSITIVE:
        return float(np.log(LOWEST)), float(np.log(HIGHEST))
    return -LARGEST_SHIFT, LARGEST_SHIFT


def _bounded(names: tuple[str, ...], free: Tensor) -> list[Tensor]:
    return [free[i].exp() if name in POSITIVE else free[i] for i, name in enumerate(names)]
