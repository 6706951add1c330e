"""Does the heat lie where the signs are? On phantoms their place is known; on real knees the joint's is, roughly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from koa_lightning.data.phantom import draw_phantoms_with_masks
from koa_lightning.explain.verdict import against_controls

# Of the height of a crop around the joint, as those of Chen 2018, whose mean knee has the joint space from 0.45 (in the
# notch) to 0.60 (at the margins): this holds it, the margins with their osteophytes, and the bone beside it.
JOINT_ROWS = (0.42, 0.70)


def joint_band(shape: tuple[int, int]) -> np.ndarray:
    """Return where the joint is in a crop around it: bool H x W, a band of the whole width by rule, found by nobody."""
    rows = (np.arange(shape[0]) + 0.5) / shape[0]
    inside = (rows >= JOINT_ROWS[0]) & (rows < JOINT_ROWS[1])
    return np.repeat(inside[:, None], shape[1], axis=1)


def phantom_masks(paths: Sequence[str], sides: Sequence[str], size: int, mirrors: Sequence[bool]) -> np.ndarray:
    """Return where the signs of phantoms are, bool N x H x W, empty at grade 0.

    Args:
        paths: phantom://SEED/PATIENTSIDE-GRADE.
        sides: L or R, N.
        size: Of the images, in pixels.
        mirrors: Whether each was mirrored on the way to the network.
    """
    names = [path.removeprefix("phantom://").split("/") for path in paths]
    patients = [name.rpartition("-")[0].removesuffix(side) for (_, name), side in zip(names, sides, strict=True)]
    grades = [int(name.rpartition("-")[2]) for _, name in names]
    masks = draw_phantoms_with_masks(patients, list(sides), grades, seed=int(names[0][0]), size=size)[1]
    return np.stack([mask[:, ::-1] if mirror else mask for mask, mirror in zip(masks, mirrors, strict=True)])


def localisation(
    maps: dict[str, np.ndarray], masks: np.ndarray, patients: Sequence[str], region: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Measure how much of the heat lies in a region, against control maps.

    Args:
        maps: "map" and its controls; float32 N x H x W each, in [0, 1].
        masks: bool, N x H x W; a knee without a region is left out.
        patients: Of each knee, N.
        region: What it is called.

    Returns:
        `share`, the heat inside over all heat (energy-based pointing game, Wang 2020), and `pointing`, whether the
        hottest pixel is inside (Zhang 2018), with verdicts by `against_controls`; `area`, the region's share of
        the image; the `verdict` is that of `share`. And by "TEST_MAP" the numbers of each knee.
    """
    there = masks.any((1, 2))
    numbers = {"share": {n: share_inside(m, masks) for n, m in maps.items()},
               "pointing": {n: points_inside(m, masks) for n, m in maps.items()}}  # fmt: skip
    knees: dict[str, np.ndarray] = {}
    results: dict[str, Any] = {"region": region, "n": int(there.sum())}
    results["area"] = float(masks[there].mean()) if there.any() else None
    for test, each in numbers.items():
        knees |= {f"{test}_{name}": np.where(there, values, np.nan) for name, values in each.items()}
        rivals = {name: knees[f"{test}_{name}"] for name in each if name != "map"}
        results[test] = against_controls(knees[f"{test}_map"], rivals, patients, more_is_better=True)
    return {**results, "verdict": results["share"]["verdict"], "rule": results["share"]["rule"]}, knees


def share_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of heat inside the masks, float64 N; 0 for a map without heat, which points nowhere."""
    heat = maps.sum((1, 2), dtype=np.float64)
    return (maps * masks).sum((1, 2), dtype=np.float64) / np.where(heat > 0, heat, 1)


def points_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return 1 where the hottest pixel is inside the mask, else 0, float64 N; the mean over equally hot ones."""
    hottest = (maps == maps.max((1, 2), keepdims=True)) & (maps > 0)
    return (hottest & masks).sum((1, 2)) / np.maximum(hottest.sum((1, 2)), 1)
