"""Does the heat lie on the signs of the disease? Phantoms give their place; real knees, roughly that of the joint."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from koa_lightning.data.phantom.manifest import draw_phantoms_with_masks
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.explain.verdict import against_controls

# Shares of the height of a crop around the joint, as in Chen 2018. There the mean knee's joint space goes from 0.45 (in
# the notch) to 0.60 (at the margins). The band holds it, the margins with their osteophytes, and the adjacent bone.
JOINT_ROWS = (0.42, 0.70)


def joint_band(shape: tuple[int, int]) -> np.ndarray:
    """Return the joint band of a whole crop around the joint, bool H x W: `JOINT_ROWS` over the full width."""
    rows = (np.arange(shape[0]) + 0.5) / shape[0]
    inside = (rows >= JOINT_ROWS[0]) & (rows < JOINT_ROWS[1])
    return np.repeat(inside[:, None], shape[1], axis=1)


def as_seen(mask: np.ndarray, preprocessing: Preprocessing, side: str = "") -> np.ndarray:
    """Return a region of the whole radiograph as it lies in the network's input.

    Args:
        mask: bool, H x W, of the whole radiograph.
        preprocessing: Of the images; its kept rows, its fit and its mirroring also move the region.
        side: L or R, or "".

    Returns:
        bool, image_size x image_size; it contains no black padding.
    """
    moved = replace(preprocessing, fix_polarity=False)  # a mask has no bone that could be dark
    return moved.apply(mask.astype(np.uint8) * 255, side) > 127


def joint_bands(shapes: np.ndarray, sides: Sequence[str], preprocessing: Preprocessing) -> list[np.ndarray]:
    """Return the joint band in the network's input for each knee.

    Args:
        shapes: Height and width of each radiograph before preprocessing, int N x 2.
        sides: L, R or "", N.
        preprocessing: Of the images.

    Returns:
        bool, image_size x image_size, N of them; knees of one shape and side share theirs. A band is empty if the kept
        rows contain no part of the joint, or nothing else: then there is nothing to compare.
    """

    @cache
    def band(height: int, width: int, side: str) -> np.ndarray:
        # drawn at the input's size, so that a whole radiograph's band matches `JOINT_ROWS` to the pixel
        size, longest = preprocessing.image_size, max(height, width)
        whole = joint_band((max(1, round(height * size / longest)), max(1, round(width * size / longest))))
        beside = not preprocessing.band(whole).all()
        return as_seen(whole & beside, preprocessing, side)

    return [band(*shape, side) for shape, side in zip(shapes.tolist(), sides, strict=True)]


def phantom_masks(paths: Sequence[str], sides: Sequence[str], preprocessing: Preprocessing) -> np.ndarray:
    """Return the signs of phantoms in the network's input, bool N x H x W, empty at grade 0.

    Args:
        paths: phantom://SEED/PATIENTSIDE-GRADE.
        sides: L or R, N.
        preprocessing: Of the images.
    """
    names = [path.removeprefix("phantom://").split("/") for path in paths]
    patients = [name.rpartition("-")[0].removesuffix(side) for (_, name), side in zip(names, sides, strict=True)]
    grades = [int(name.rpartition("-")[2]) for _, name in names]
    seed, size = int(names[0][0]), preprocessing.image_size
    masks = draw_phantoms_with_masks(patients, list(sides), grades, seed=seed, size=size)[1]
    return np.stack([as_seen(mask, preprocessing, side) for mask, side in zip(masks, sides, strict=True)])


def localisation(
    maps: dict[str, np.ndarray], masks: np.ndarray, patients: Sequence[str], region: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Compute how much of the heat lies in a region, compared with control maps.

    Args:
        maps: "map" and its controls; float32 N x H x W each, in [0, 1].
        masks: bool, N x H x W; a knee without a region is omitted.
        patients: Patient of each knee, N.
        region: The region's name.

    Returns:
        `share`, the heat inside over all heat (energy-based pointing game, Wang 2020), and `pointing`, whether the
        hottest pixel is inside (Zhang 2018), with verdicts by `against_controls`; `area`, the region's share of
        the image; the `verdict` is that of `share`. Also the numbers of each knee by "TEST_MAP".
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
    """Return 1 if the hottest pixel is inside the mask, else 0, float64 N; equally hot pixels are averaged."""
    hottest = (maps == maps.max((1, 2), keepdims=True)) & (maps > 0)
    return (hottest & masks).sum((1, 2)) / np.maximum(hottest.sum((1, 2)), 1)
