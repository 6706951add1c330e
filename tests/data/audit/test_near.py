"""Near duplicates of phantoms: what is planted is found, and nothing else."""

import cv2
import numpy as np
import pandas as pd
import pytest

from koa_lightning.data.audit import near
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest

SIZE = 224


@pytest.fixture(scope="module")
def knees():
    rows = phantom_manifest(12, seed=5)
    return draw_phantoms(rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=5, size=SIZE)


def crop(image, scale=1.0, dx=0.0, dy=0.0):
    """The window of `scale` times the width, its middle moved by shares of the width; black where there is nothing."""
    left = SIZE / 2 * (1 - scale)
    window = np.array([[scale, 0, left + dx * SIZE], [0, scale, left + dy * SIZE]])
    return cv2.warpAffine(image, window, (SIZE, SIZE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def expose(image, gamma):
    return np.rint(255 * (image / 255.0) ** gamma).astype(np.uint8)


def encode(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


CHANGES = {
    "the same": lambda image: image,
    "cropped": lambda image: crop(image, 0.75, 0.05, -0.05),
    "padded": lambda image: crop(image, 1.3),
    "shifted": lambda image: crop(image, 1.0, 0.15, -0.15),
    "brighter": lambda image: expose(image, 0.7),
    "darker": lambda image: expose(image, 1.4),
    "equalised": cv2.equalizeHist,
    "encoded": lambda image: encode(image, 70),
    "all at once": lambda image: encode(cv2.equalizeHist(expose(crop(image, 0.85, -0.08, 0.1), 0.8)), 75),
}


def pairs(frame):
    return set(zip(frame["row_a"], frame["row_b"], strict=True))


def test_each_planted_change_is_found_and_nothing_else(knees):
    planted = [change(knees[number]) for number, change in enumerate(CHANGES.values())]
    found = near.find_duplicates(np.concatenate([knees, planted]), quiet=True)
    assert list(found.columns) == list(near.COLUMNS)
    assert pairs(found) == {(number, len(knees) + number) for number in range(len(CHANGES))}
    assert found["similarity"].is_monotonic_decreasing
    assert found["similarity"].between(near.MIN_CORRELATION, 1).all()


def test_how_one_picture_lies_on_the_other(knees):
    found = near.find_duplicates(np.stack([knees[0], crop(knees[0], 0.8, 0.1, -0.05)]), quiet=True)
    assert len(found) == 1
    np.testing.assert_allclose(found[["scale", "dx", "dy"]].to_numpy()[0], [0.8, 0.1, -0.05], atol=0.01)


def test_knees_of_different_patients_and_mirrored_ones_are_no_duplicates(knees):
    mirrored = knees[:12, :, ::-1]
    assert near.find_duplicates(np.concatenate([knees, mirrored]), quiet=True).empty


def test_the_order_of_the_images_does_not_matter(knees):
    images = np.concatenate([knees, [CHANGES["all at once"](knees[3])]])
    order = np.random.default_rng(0).permutation(len(images))
    found = near.find_duplicates(images[order], quiet=True)
    assert [{int(order[a]), int(order[b])} for a, b in pairs(found)] == [{3, len(knees)}]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_or_blank_images(n, knees):
    blank = np.full((n, SIZE, SIZE), 128, np.uint8)
    assert near.find_duplicates(blank, quiet=True).empty
    assert near.find_duplicates(np.concatenate([knees[:n], blank]), quiet=True).empty


def test_marks_that_agree_on_nothing_prove_nothing(knees):
    rng = np.random.default_rng(0)
    points = rng.uniform(0, SIZE, (2, 20, 2)).astype(np.float32)
    assert near.prove(knees[0], knees[0], *points) is None
    same = points[0]
    assert near.prove(knees[0], knees[0], same, same).similarity == pytest.approx(1, abs=1e-3)
    assert near.prove(knees[0], knees[5], same, same) is None  # another knee
    assert near.prove(knees[0], knees[0], same, same[:, ::-1] * [1, -1] + [0, SIZE]) is None  # turned
    assert near.prove(knees[0], knees[0], same, same / 3) is None  # a third of the size
    assert near.prove(knees[0], np.zeros_like(knees[0]), same, same) is None  # nothing in common


def test_many_images_share_the_memory(monkeypatch, knees):
    monkeypatch.setattr(near, "MOST_KEYPOINTS", 50 * 20)
    few = np.concatenate([knees, [CHANGES["brighter"](knees[0])]])
    assert (0, len(knees)) in pairs(near.find_duplicates(few, quiet=True))


@pytest.mark.slow
@pytest.mark.parametrize("most", [100, 701, 10_000])
def test_several_indexes_find_what_one_finds(monkeypatch, knees, most):
    planted = np.concatenate([knees, [change(knees[number]) for number, change in enumerate(CHANGES.values())]])
    expected = pairs(near.find_duplicates(planted, quiet=True))
    monkeypatch.setattr(near, "INDEXED", most)
    assert pairs(near.find_duplicates(planted, quiet=True)) == expected


@pytest.mark.slow
def test_votes_are_counted_a_few_images_at_a_time(monkeypatch, knees):
    images = np.concatenate([knees, knees[:6]])
    expected = near.find_duplicates(images, quiet=True)
    monkeypatch.setattr(near, "_VOTES_AT_ONCE", 200)
    pd.testing.assert_frame_equal(near.find_duplicates(images, quiet=True), expected)
