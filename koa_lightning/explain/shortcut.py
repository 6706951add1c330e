"""Does the network grade the joint, or something else? Grade again with the joint hidden, and with the joint alone.

Networks can grade above chance with the joint removed (Prezja 2024, arXiv 2311.06118).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from koa_lightning.explain.faithfulness import blurred
from koa_lightning.explain.verdict import FAILED, FEWEST_PATIENTS, PASSED, UNKNOWN, resampled
from koa_lightning.metrics.definitions.quadratic_kappa import quadratic_kappa
from koa_lightning.models import outputs

MOST_SURVIVES = 0.5
FILLS = ("mean", "blur")  # the first decides
EDGE = 0.02  # of the width: the fill fades in, so that its outline is not a new cue
_CHUNK = 128  # images in memory as floats
RULE = (
    "the quadratic kappa is above 0, and less than half of it survives without the joint, both with their 95 % "
    "intervals by patient"
)


def shortcut(
    logits: Callable[[Tensor], Tensor],
    images: Tensor,
    grades: np.ndarray,
    patients: Sequence[str],
    regions: Sequence[np.ndarray],
    link: str,
) -> dict[str, Any]:
    """Compute how much of the quadratic kappa survives when the joint, or all but the joint, is hidden.

    Args:
        logits: Function from images, float32 N x 1 x H x W in [0, 1], to logits, float N x K.
        images: uint8, N x 1 x H x W.
        grades: True grade, int N, 0 to 4.
        patients: Patient of each knee, N.
        regions: The joint of each knee, bool H x W, N; if one is empty, there is no verdict.
        link: Of the logits.

    Returns:
        `kappa`, `without_joint`, `only_joint`, `survives` (without_joint over kappa) and `survives_only_joint`, each
        with `_low` and `_high` (paired, by patient; None where undefined); the same under `blur`, where the hidden part
        is blurred instead of filled with the image's mean; `n`, `verdict`, `reason`, `rule`.
    """
    draws, number = resampled(patients)
    enough = draws.shape[1] >= FEWEST_PATIENTS
    there = all(region.any() for region in regions)
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(images), _CHUNK)]

    def kappas(hidden: Callable[[np.ndarray], np.ndarray], fill: str) -> np.ndarray:
        """Return the kappa, and those of the draws; `hidden` turns regions into what is hidden."""
        shown = (hide(images[rows].float() / 255, hidden(_stacked(regions[rows])), fill) for rows in chunks)
        predicted = outputs.probabilities(torch.cat([logits(some) for some in shown]), link).argmax(1).numpy()
        cells = np.zeros((draws.shape[1], 25))
        np.add.at(cells, (number, 5 * grades + predicted), 1)
        counts = np.concatenate([cells.sum(0)[None], draws @ cells]).reshape(-1, 5, 5)
        return quadratic_kappa(torch.from_numpy(counts)).numpy()

    whole = kappas(np.zeros_like, FILLS[0])
    above_chance = there and enough and (_limits("kappa", whole)["kappa_low"] or 0) > 0
    results = {}
    for fill in FILLS:
        without, only = (kappas(hidden, fill) for hidden in (np.copy, np.logical_not))
        undefined = np.full(len(whole), np.nan)  # a share of nothing
        shares = [each / whole if above_chance else undefined for each in (without, only)]
        numbers = {"kappa": whole, "without_joint": without, "only_joint": only}
        numbers |= {"survives": shares[0], "survives_only_joint": shares[1]}
        results[fill] = {key: value for name, each in numbers.items() for key, value in _limits(name, each).items()}
    first = results[FILLS[0]]
    highest = first["survives_high"]
    valid = there and enough
    verdict = UNKNOWN if not valid else PASSED if highest is not None and highest < MOST_SURVIVES else FAILED
    why = "" if above_chance or not valid else "no better than chance, so nothing can be lost"
    if not there:
        why = "the rows that the network sees contain no part of the joint, or nothing else"
    rest = {"n": len(grades), "fill": FILLS[0], "verdict": verdict, "reason": why, "rule": RULE}
    return {**first, "blur": results["blur"], **rest}


def hide(images: Tensor, hidden: np.ndarray, fill: str) -> Tensor:
    """Return images whose hidden part takes their mean gray, or is blurred beyond recognition.

    Args:
        images: float32, N x 1 x H x W, in [0, 1].
        hidden: bool, N x H x W; or 1 x H x W, the same for all.
        fill: "mean": of the visible part; "blur": a Gaussian of a tenth of the width.
    """
    share = torch.from_numpy(hidden.astype(np.float32))[:, None]
    kept = 1 - share
    if fill == "mean":
        n_kept = kept.sum((2, 3), keepdim=True).clamp(min=1)  # where nothing stays: black
        filling = ((images * kept).sum((2, 3), keepdim=True) / n_kept).expand_as(images)
    else:
        filling = blurred(images, 0.1)
    soft = torch.maximum(blurred(share, EDGE), share)  # nothing of the hidden part shows through
    return images * (1 - soft) + filling * soft


def _stacked(regions: Sequence[np.ndarray]) -> np.ndarray:
    """Return regions as N x H x W, or as 1 x H x W if all are equal, so that one edge is faded instead of N."""
    same = all(np.array_equal(each, regions[0]) for each in regions)
    return np.stack(regions[:1] if same else regions)


def _limits(name: str, numbers: np.ndarray) -> dict[str, float | None]:
    """Return the first number, the value, and the 95 % limits of the others, its defined resamples."""
    value, draws = numbers[0], numbers[1:][np.isfinite(numbers[1:])]
    low, high = np.percentile(draws, (2.5, 97.5)) if len(draws) else (np.nan, np.nan)
    shown = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: float(each) if np.isfinite(each) else None for key, each in shown.items()}
