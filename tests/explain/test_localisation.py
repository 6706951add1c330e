from dataclasses import replace

import numpy as np
import pytest

from koa_lightning.data.phantom.manifest import draw_phantoms_with_masks, phantom_manifest
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.explain import controls
from koa_lightning.explain.localisation import (
    as_seen,
    joint_band,
    joint_bands,
    localisation,
    phantom_masks,
    points_inside,
    share_inside,
)
from koa_lightning.explain.verdict import FAILED, PASSED, UNKNOWN

PATIENTS = [f"p{n // 2}" for n in range(30)]


def maps_with(ours):
    n, *shape = ours.shape
    return {"map": ours, "random": controls.random_maps(n, (4, 4), tuple(shape), 0),
            "centre": controls.centre_maps(n, tuple(shape))}  # fmt: skip


def test_heat_in_the_mask_passes_and_heat_beside_it_fails():
    masks = np.zeros((30, 32, 32), bool)
    masks[:, 4:12, 20:30] = True
    inside = masks.astype(np.float32) + 0.01
    found, knees = localisation(maps_with(inside / inside.max()), masks, PATIENTS, "here")
    assert (found["verdict"], found["pointing"]["verdict"], found["region"]) == (PASSED, PASSED, "here")
    assert found["share"]["map"] == pytest.approx(80 * 1.01 / (80 + 0.01 * 1024))
    assert found["area"] == pytest.approx(80 / 1024)
    assert found["pointing"]["map"] == 1
    beside, _ = localisation(maps_with(1 - masks.astype(np.float32)), masks, PATIENTS, "here")
    assert (beside["verdict"], beside["share"]["map"], beside["pointing"]["map"]) == (FAILED, 0, 0)
    assert set(knees) == {f"{test}_{name}" for test in ("share", "pointing") for name in ("map", "random", "centre")}


def test_knees_without_signs_are_omitted():
    masks = np.zeros((30, 32, 32), bool)
    masks[:20, 4:12] = True
    found, knees = localisation(maps_with(masks.astype(np.float32)), masks, PATIENTS, "here")
    assert (found["n"], found["share"]["n"]) == (20, 20)
    assert np.isnan(knees["share_map"][20:]).all()
    none, _ = localisation(maps_with(masks.astype(np.float32)), np.zeros_like(masks), PATIENTS, "here")
    assert (none["verdict"], none["area"], none["share"]["map"]) == (UNKNOWN, None, None)


def test_a_map_without_heat_points_nowhere():
    masks = np.ones((2, 8, 8), bool)
    flat = np.zeros((2, 8, 8), np.float32)
    assert share_inside(flat, masks).tolist() == [0, 0]
    assert points_inside(flat, masks).tolist() == [0, 0]
    twice = flat.copy()
    twice[:, 0, 0] = twice[:, 7, 7] = 1
    masks[:, 4:] = False
    assert points_inside(twice, masks).tolist() == [0.5, 0.5]


def test_the_joint_band_is_around_the_middle():
    band = joint_band((100, 100))
    assert band[42:70].all()
    assert not band[:42].any() and not band[70:].any()
    assert joint_band((64, 64)).mean() == pytest.approx(band.mean(), abs=0.02)


def rows_inside(mask):
    """First row inside and the one after the last, as shares of the height."""
    rows = np.flatnonzero(mask.any(1))
    return rows[0] / len(mask), (rows[-1] + 1) / len(mask)


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("shape", [(64, 64), (299, 299), (2000, 2000)])
def test_the_joint_band_of_a_whole_square_radiograph_is_the_rule_itself(fit, shape):
    for size in (64, 224):
        (band,) = joint_bands(np.array([shape]), ["R"], Preprocessing(size, fit, "L", fix_polarity=True))
        np.testing.assert_array_equal(band, joint_band((size, size)))


def test_the_joint_band_follows_the_rows_that_are_kept():
    shapes = np.array([(299, 299), (300, 400)])
    for band in joint_bands(shapes, ["L", "R"], Preprocessing(224, "stretch", top=0.25, bottom=0.85)):
        assert rows_inside(band) == pytest.approx((0.17 / 0.6, 0.45 / 0.6), abs=0.01)
        assert (band.all(1) == band.any(1)).all()
    (padded,) = joint_bands(shapes[:1], ["L"], Preprocessing(224, "letterbox", top=0.25, bottom=0.85))
    assert rows_inside(padded) == pytest.approx((0.2 + 0.17, 0.2 + 0.45), abs=0.01)


def test_the_joint_band_is_of_the_picture_not_of_the_black_that_pads_it():
    wide, tall = joint_bands(np.array([(500, 1000), (1000, 500)]), ["L", "R"], Preprocessing(64))
    np.testing.assert_array_equal(wide[16:48], joint_band((32, 64)))
    assert not wide[:16].any() and not wide[48:].any()
    np.testing.assert_array_equal(tall[:, 16:48], joint_band((64, 32)))
    assert not tall[:, :16].any() and not tall[:, 48:].any()


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize(("top", "bottom"), [(0.0, 0.4), (0.72, 1.0), (0.45, 0.65)])
def test_there_is_no_joint_band_where_the_rows_hold_nothing_of_it_or_nothing_else(fit, top, bottom):
    bands = joint_bands(np.array([(100, 100), (100, 80)]), ["L", "R"], Preprocessing(64, fit, top=top, bottom=bottom))
    assert not np.any(bands)


@pytest.mark.parametrize(("fit", "shape"), [("letterbox", (64, 41)), ("stretch", (50, 64)), ("letterbox", (64, 64))])
def test_a_region_goes_where_the_image_goes_and_is_not_inverted(fit, shape):
    mask = np.ones(shape, bool)
    mask[:20], mask[36:], mask[:, 17:] = False, False, False
    seen = Preprocessing(64, fit, "L", top=0.25, bottom=0.85)
    for side in ("L", "R"):
        image = seen.apply(np.where(mask, 254, 0).astype(np.uint8), side)
        np.testing.assert_array_equal(as_seen(mask, replace(seen, fix_polarity=True), side), image >= 127)


def test_the_masks_of_phantoms_are_cut_and_stretched_as_their_images():
    rows = phantom_manifest(6, 5, (0.2,) * 5)
    paths, sides, patients = (rows[name].tolist() for name in ("path", "side", "patient"))
    seen = Preprocessing(60, "stretch", "L", top=0.25, bottom=0.85)
    masks = phantom_masks(paths, sides, seen)
    _, drawn = draw_phantoms_with_masks(patients, sides, rows["grade"].tolist(), seed=5, size=60)
    rows_of_output = 15 + ((np.arange(60) + 0.5) * 0.6).astype(int)
    for mask, own, side in zip(masks, drawn, sides, strict=True):
        expected = (own[:, ::-1] if side == "R" else own)[rows_of_output]
        assert (mask != expected).mean() < 0.01
        if own.any():
            assert (mask & expected).sum() > 0.9 * (mask | expected).sum()


def test_the_masks_of_phantoms_are_those_they_were_drawn_with():
    rows = phantom_manifest(8, 5, (0.2,) * 5)
    sides = rows["side"].tolist()
    masks = phantom_masks(rows["path"].tolist(), sides, Preprocessing(48, canonical_side="L"))
    _, drawn = draw_phantoms_with_masks(rows["patient"].tolist(), sides, rows["grade"].tolist(), seed=5, size=48)
    for mask, own, side, grade in zip(masks, drawn, sides, rows["grade"], strict=True):
        np.testing.assert_array_equal(mask, own[:, ::-1] if side == "R" else own)
        assert mask.any() == (grade > 0)


def test_the_joint_band_holds_the_signs_of_phantoms():
    rows = phantom_manifest(40, 3, (0.2,) * 5)
    masks = phantom_masks(rows["path"].tolist(), rows["side"].tolist(), Preprocessing(64))
    masks = masks[masks.any((1, 2))]
    inside = (masks & joint_band((64, 64))).sum((1, 2)) / masks.sum((1, 2))
    assert inside.mean() > 0.9
