import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data.phantom.manifest import GRADE_SHARES, draw_phantoms, draw_phantoms_with_masks, phantom_manifest
from koa_lightning.errors import InputError

SEED = 7


def population(n_patients, size, grade=None):
    knees = phantom_manifest(n_patients, SEED)
    grades = knees.grade.tolist() if grade is None else [grade] * len(knees)
    images, masks = draw_phantoms_with_masks(knees.patient.tolist(), knees.side.tolist(), grades, seed=SEED, size=size)
    return knees, images, masks


@pytest.mark.slow
def test_same_bytes_in_another_process():
    code = (
        "import sys; from koa_lightning.data.phantom.manifest import draw_phantoms as d;"
        f"sys.stdout.buffer.write(d(['P000003', 'x'], ['L', 'R'], [3, 1], seed={SEED}, size=64).tobytes())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    here = draw_phantoms(["P000003", "x"], ["L", "R"], [3, 1], seed=SEED, size=64)
    assert here.tobytes() == there


@given(order=st.permutations(range(6)), keep=st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_a_knee_does_not_depend_on_its_batch(order, keep):
    knees, images, masks = population(3, 48)
    split = knees.iloc[list(order[:keep])]
    again, masks_again = draw_phantoms_with_masks(
        split.patient.tolist(), split.side.tolist(), split.grade.tolist(), seed=SEED, size=48
    )
    np.testing.assert_array_equal(again, images[split.index])
    np.testing.assert_array_equal(masks_again, masks[split.index])


@pytest.mark.parametrize("other", [("b", "L", 2, 0), ("a", "R", 2, 0), ("a", "L", 3, 0), ("a", "L", 2, 1)])
def test_patient_side_grade_and_seed_each_change_the_image(other):
    patient, side, grade, seed = other
    base = draw_phantoms(["a"], ["L"], [2], seed=0, size=64)
    assert (draw_phantoms([patient], [side], [grade], seed=seed, size=64) != base).any()


@pytest.mark.parametrize("size", [32, 75, 224])
def test_shapes_types_and_range(size):
    images, masks = draw_phantoms_with_masks(["a", "a"], ["L", "R"], [0, 4], seed=SEED, size=size)
    assert images.shape == masks.shape == (2, size, size)
    assert images.dtype == np.uint8
    assert masks.dtype == np.bool_
    assert (images.std(axis=(1, 2)) > 20).all()


def test_no_knees_are_no_error():
    assert draw_phantoms([], [], [], seed=0, size=32).shape == (0, 32, 32)


def test_masks_are_empty_at_grade_0_and_lie_in_one_compartment_otherwise():
    _, images, masks = population(12, 96, grade=3)
    _, _, none = population(12, 96, grade=0)
    assert not none.any()
    share = masks.mean(axis=(1, 2))
    assert (share > 0.03).all()
    assert (share < 0.20).all()
    columns = masks.any(axis=1)
    left, right = columns[:, :40].any(axis=1), columns[:, 56:].any(axis=1)
    assert (left ^ right).all()
    assert images.shape == masks.shape


def test_the_medial_compartment_is_affected_more_often():
    knees, _, masks = population(60, 32, grade=2)
    mask_on_left = masks[:, :, :16].sum(axis=(1, 2)) > masks[:, :, 16:].sum(axis=(1, 2))
    medial = mask_on_left == (knees.side == "L").to_numpy()  # a left knee shows its medial side on the left
    assert 0.6 < medial.mean() < 0.85


def test_a_worse_grade_changes_the_picture_mostly_within_the_mask():
    _, sound, _ = population(10, 96, grade=0)
    _, worse, masks = population(10, 96, grade=3)
    change = np.abs(worse.astype(float) - sound)
    assert change[masks].mean() > 3 * change[~masks].mean()


def test_the_drawn_joint_space_fills_with_the_grade():
    _, _, masks = population(15, 128, grade=4)
    dark = []
    for grade in range(5):
        _, images, _ = population(15, 128, grade=grade)
        level = images.mean(axis=(1, 2), keepdims=True) - images.std(axis=(1, 2), keepdims=True)
        dark.append(((images < level) & masks).sum())
    assert (np.diff(dark) < 0).all()
    assert dark[4] < 0.5 * dark[0]


def test_the_fibula_is_on_the_left_of_a_right_knee():
    knees, images, _ = population(40, 64, grade=0)
    lower = images[:, 54:, :].astype(float)
    right = (knees.side == "R").to_numpy()
    mean_right, mean_left = lower[right].mean(axis=(0, 1)), lower[~right].mean(axis=(0, 1))
    assert mean_right[:9].mean() > mean_right[-9:].mean() + 10
    assert mean_left[-9:].mean() > mean_left[:9].mean() + 10
    assert np.corrcoef(mean_right, mean_left[::-1])[0, 1] > 0.95


def test_brightness_contrast_and_margins_do_not_tell_the_grade():
    _, sound, _ = population(20, 64, grade=0)
    _, worst, _ = population(20, 64, grade=4)
    for figure in (np.mean, np.std):
        difference = figure(worst, axis=(1, 2)) - figure(sound, axis=(1, 2))
        assert np.abs(difference).mean() < 3
    corner = np.abs(worst[:, :12, :12].astype(float) - sound[:, :12, :12])
    assert corner.mean() < 6


@pytest.mark.parametrize("n_patients", [1, 5, 6, 40])
def test_manifest_lists_two_knees_a_patient(n_patients):
    knees = phantom_manifest(n_patients, 3)
    assert list(knees.columns) == ["path", "grade", "patient", "side"]
    assert knees.grade.dtype == np.int8
    assert knees.groupby("patient").side.agg("".join).eq("LR").all()
    assert knees.patient.nunique() == n_patients
    assert knees.path[1] == f"phantom://3/P000000R-{knees.grade[1]}"
    assert knees.path.is_unique
    if n_patients >= 5:
        assert set(knees.grade) == set(range(5))


def test_manifest_depends_on_the_seed_and_grows_at_its_end():
    few, many = phantom_manifest(8, 3), phantom_manifest(90, 3)
    assert few.equals(many.iloc[:16])
    assert few.equals(phantom_manifest(8, 3))
    assert not many.grade.equals(phantom_manifest(90, 4).grade)


@pytest.mark.parametrize("shares", [GRADE_SHARES, (1, 1, 1, 1, 1), (0.5, 0.0, 0.25, 0.25, 0.0)])
def test_manifest_keeps_the_shares_and_correlates_the_knees(shares):
    knees = phantom_manifest(4000, 11, shares)
    found = np.bincount(knees.grade, minlength=5) / len(knees)
    np.testing.assert_allclose(found, np.array(shares) / sum(shares), atol=0.02)
    pairs = knees.pivot(index="patient", columns="side", values="grade")
    assert 0.4 < pairs.L.corr(pairs.R, method="spearman") < 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grades": [5]}, "no such grade: 5"),
        ({"grades": [-1]}, "no such grade: -1"),
        ({"grades": [1.5]}, "no such grade: 1.5"),
        ({"sides": [""]}, "no such side: ''"),
        ({"patients": ["a", "b"]}, "2 patients, 1 sides and 1 grades"),
        ({"size": 31}, "no such size: 31"),
        ({"size": 4096}, "no such size: 4096"),
        ({"size": 64.5}, "no such size: 64.5"),
    ],
)
def test_bad_input_is_named(change, message):
    good = {"patients": ["a"], "sides": ["L"], "grades": [1], "seed": 0, "size": 64}
    with pytest.raises(InputError, match=message):
        draw_phantoms(**{**good, **change})


@pytest.mark.parametrize(
    ("n_patients", "shares"),
    [(0, GRADE_SHARES), (5, (1, 1)), (5, (0,) * 5), (5, (-1, 1, 1, 1, 1)), (5, (np.nan, 1, 1, 1, 1))],
)
def test_bad_population_is_named(n_patients, shares):
    with pytest.raises(InputError, match="phantoms: "):
        phantom_manifest(n_patients, 0, shares)
