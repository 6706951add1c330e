"""Turn a network's logits into grade probabilities; no other module knows what the outputs mean."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from koa_lightning.errors import InputError

N_GRADES = 5
HALF_MARGIN = 1e-6


class Link(NamedTuple):
    """How many logits a head gives per knee, and the functions that turn them into probabilities and their logs."""

    n_outputs: int
    to_probabilities: Callable[[Tensor], Tensor]
    to_log_probabilities: Callable[[Tensor], Tensor]


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _corn(logits: Tensor) -> Tensor:
    one = logits.new_ones(len(logits), 1)
    reaches = torch.cat([one, logits.sigmoid().cumprod(dim=1)], dim=1)  # P(y >= k)
    stays = torch.cat([(-logits).sigmoid(), one], dim=1)  # P(y = k | y >= k)
    # P(y > k - 1) - P(y > k) written as a product: no cancellation, so never negative.
    return reaches * stays


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(dim=1)


def _log_corn(logits: Tensor) -> Tensor:
    zero = logits.new_zeros(len(logits), 1)
    reaches = torch.cat([zero, logsigmoid(logits).cumsum(dim=1)], dim=1)
    return reaches + torch.cat([logsigmoid(-logits), zero], dim=1)


LINKS: dict[str, Link] = {
    "softmax": Link(N_GRADES, _softmax, _log_softmax),
    "corn": Link(N_GRADES - 1, _corn, _log_corn),
}


def _link(name: str) -> Link:
    if name not in LINKS:
        raise InputError(f"unknown link {name!r} in the model or loss: choose one of {', '.join(LINKS)}")
    return LINKS[name]


def n_outputs(link: str) -> int:
    """Number of logits per knee that a head with this link must give: 5 for softmax, 4 for corn.

    Raises:
        InputError: if the link is unknown.
    """
    return _link(link).n_outputs


def probabilities(logits: Tensor, link: str) -> Tensor:
    """Grade probabilities of each knee, always computed in float32.

    Softmax, or CORN (Shi, Cao and Raschka 2021): logit k gives P(y > k | y > k - 1); products of these
    give P(y > k), whose differences are the probabilities of the grades.

    Args:
        logits: N x K of any floating type, with K = n_outputs(link).
        link: a key of LINKS.

    Returns:
        N x 5 float32 in [0, 1]; each row sums to 1 up to rounding.

    Raises:
        InputError: if the link is unknown or the logits have the wrong number of columns for it.
    """
    return _fitting(logits, link).to_probabilities(logits.float())


def log_probabilities(logits: Tensor, link: str) -> Tensor:
    """Logarithms of the grade probabilities, computed directly, which keeps small ones exact.

    Args:
        logits: N x K float32 or float64, with K = n_outputs(link).
        link: a key of LINKS.

    Returns:
        N x 5 of the logits' type, at most 0.

    Raises:
        InputError: as `probabilities` does.
    """
    return _fitting(logits, link).to_log_probabilities(logits)


def _fitting(logits: Tensor, link: str) -> Link:
    chosen = _link(link)
    if logits.ndim != 2 or logits.shape[1] != chosen.n_outputs:
        raise InputError(
            f"logits of shape {tuple(logits.shape)} do not fit link {link!r}: "
            f"give N x {chosen.n_outputs}, or the link that the head was made for"
        )
    return chosen


def expected_grade(probabilities: Tensor) -> Tensor:
    """Mean grade under the probabilities: the sum of grade x probability.

    Args:
        probabilities: N x 5 in [0, 1], rows summing to 1.

    Returns:
        N, float32 (float64 if given so), in [0, 4].
    """
    grades = torch.arange(N_GRADES, dtype=torch.float32, device=probabilities.device)
    # Not a matrix product: autocast would run that in bfloat16.
    return (probabilities * grades).sum(dim=1).clamp(0, N_GRADES - 1)


def median_grade(probabilities: Tensor) -> Tensor:
    """Median of the grade under the probabilities: the lowest grade whose cumulative probability reaches one half.

    No other grade has a smaller expected absolute error.

    Args:
        probabilities: N x 5 in [0, 1], rows summing to 1.

    Returns:
        N int64, in 0-4.
    """
    # float64 gives the same grade for one knee, for many, and for a table that was written and read again. The margin
    # absorbs the rounding of float32 where two grades have exactly one half each.
    reached = probabilities.double().cumsum(dim=1) >= 0.5 - HALF_MARGIN
    reached[:, -1] = True
    return reached.long().argmax(dim=1)


def round_grade(expected: Tensor) -> Tensor:
    """Nearest grade, halves upwards (torch.round would take them to the even grade).

    Args:
        expected: N floating, in [0, 4].

    Returns:
        N int64, in 0-4.
    """
    below = expected.floor()
    # Not floor(x + 0.5): in float32 that sum lifts 0.49999997 to 1.
    return (below + (expected - below >= 0.5)).long()
