import numpy as np
import pytest

from koa_lightning.data.phantom import draw_phantoms_with_masks, phantom_manifest
from koa_lightning.explain import controls
from koa_lightning.explain.localisation import joint_band, localisation, phantom_masks, points_inside, share_inside
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


def test_knees_without_signs_are_left_out():
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


def test_the_masks_of_phantoms_are_those_they_were_drawn_with():
    rows = phantom_manifest(8, 5, (0.2,) * 5)
    sides = rows["side"].tolist()
    masks = phantom_masks(rows["path"].tolist(), sides, 48, [side == "R" for side in sides])
    _, drawn = draw_phantoms_with_masks(rows["patient"].tolist(), sides, rows["grade"].tolist(), seed=5, size=48)
    for mask, own, side, grade in zip(masks, drawn, sides, rows["grade"], strict=True):
        np.testing.assert_array_equal(mask, own[:, ::-1] if side == "R" else own)
        assert mask.any() == (grade > 0)


def test_the_joint_band_holds_the_signs_of_phantoms():
    rows = phantom_manifest(40, 3, (0.2,) * 5)
    masks = phantom_masks(rows["path"].tolist(), rows["side"].tolist(), 64, [False] * len(rows))
    masks = masks[masks.any((1, 2))]
    inside = (masks & joint_band((64, 64))).sum((1, 2)) / masks.sum((1, 2))
    assert inside.mean() > 0.9
