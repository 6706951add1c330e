"""Recalibrated grade probabilities, from parameters that `koa_lightning.uncertainty.calibration` fitted.

A module of its own, so that grading one image does not import SciPy's optimisers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from koa_lightning.checkpoint.fitted import PARAMETERS, Calibration, LeftOut
from koa_lightning.models import outputs


def probabilities(logits: Tensor, link: str, entry: Calibration | LeftOut | None = None) -> Tensor:
    """Return the recalibrated grade probabilities of logits, by plain torch operations, which can be exported.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        entry: From `fit` or a checkpoint; if nothing was fitted, the probabilities are raw.

    Returns:
        N x 5 float32 in [0, 1], rows sum to 1 up to rounding.
    """
    if not isinstance(entry, Calibration) or entry.method == "none":
        return outputs.probabilities(logits, link)
    values = [logits.new_tensor(entry.parameters[name], dtype=torch.float32) for name in PARAMETERS[entry.method]]
    return log_recalibrated(logits.float(), link, entry.method, values).exp().clamp(max=1.0)


def log_recalibrated(logits: Tensor, link: str, method: str, values: list[Tensor]) -> Tensor:
    """Return log probabilities N x 5 of logits (N x K), differentiable in the parameters.

    Args:
        logits: Float, N x K.
        link: See `koa_lightning.models.outputs`.
        method: One of `METHODS` of `koa_lightning.checkpoint.fitted`, not `none`.
        values: One scalar for each of the method's `PARAMETERS`, in their order.
    """
    if method == "temperature":
        return outputs.log_probabilities(logits / values[0], link)
    if method == "bias":
        scale, *biases = values
        added = torch.stack([torch.zeros_like(scale), *biases])
        return (scale * outputs.log_probabilities(logits, link) + added).log_softmax(1)
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
