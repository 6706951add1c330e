"""Class weights against the imbalance of the grades (13 knees of grade 0 for one of grade 4)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from koa_lightning.errors import InputError
from koa_lightning.models.outputs import N_GRADES


def _balanced(counts: Tensor, beta: float) -> Tensor:
    return 1 / counts


def _sqrt(counts: Tensor, beta: float) -> Tensor:
    return counts.rsqrt()


def _effective_number(counts: Tensor, beta: float) -> Tensor:
    return (1 - beta) / (1 - beta**counts)


KINDS: dict[str, Callable[[Tensor, float], Tensor] | None] = {
    "none": None,
    "balanced": _balanced,
    "sqrt": _sqrt,
    "effective_number": _effective_number,
}


def class_weights(kind: str, counts: Sequence[int], beta: float = 0.999) -> Tensor | None:
    """Weight of each grade from the number of training knees that have it.

    "balanced" is 1 / count (sklearn's compute_class_weight), "sqrt" its square root, "effective_number"
    (1 - beta) / (1 - beta^count) (Cui et al. 2019). All are scaled to mean 1 over the knees, that is
    sum(count * weight) = sum(count).

    Args:
        kind: a key of KINDS.
        counts: knees of grade 0, 1, 2, 3, 4 in the training split.
        beta: in [0, 1), for "effective_number" only; 0 gives equal weights, towards 1 they become balanced.

    Returns:
        5 float32, > 0; None for the kind "none".

    Raises:
        InputError: if the kind is unknown, there are not five counts, a grade has no knee or beta is out
            of range.
    """
    if kind not in KINDS:
        raise InputError(f"unknown loss.class_weights {kind!r}: choose one of {', '.join(KINDS)}")
    formula = KINDS[kind]
    if formula is None:
        return None
    if len(counts) != N_GRADES:
        raise InputError(f"class weights need {N_GRADES} counts, one per grade, but got {list(counts)}")
    missing = [grade for grade, count in enumerate(counts) if count < 1]
    if missing:
        raise InputError(
            f"class weights {kind!r}: no training knee of grade {', '.join(map(str, missing))}; "
            "add such knees or set loss.class_weights=none"
        )
    if not 0 <= beta < 1:
        raise InputError(f"class weights {kind!r}: beta is {beta}, give a number in [0, 1)")
    knees = torch.tensor(counts, dtype=torch.float64)
    weights = formula(knees, beta)
    return (weights * knees.sum() / (weights * knees).sum()).float()
