from functools import lru_cache

import numpy as np
import pytest

from benchmarks.films import compose_film, measure_singles
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.prepare.films import joint_centre, shows_both_knees, split_film
from koa_lightning.errors import InputError

SIZE = 160


@lru_cache(maxsize=1)
def phantoms():
    """Three patients, right knee first; 3 x 2 x S x S."""
    patients = [f"P{i}" for i in range(3) for _ in "RL"]
    return draw_phantoms(patients, list("RL") * 3, [0, 1, 2, 2, 3, 4], seed=5, size=SIZE).reshape(3, 2, SIZE, SIZE)


def film(seed):
    return compose_film(*phantoms()[seed % 3], np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_a_film_of_both_knees_is_split_and_the_joints_are_found(seed):
    image, reference = film(seed)
    knees = split_film(image)
    assert [knee.side for knee in knees] == ["R", "L"]
    for knee, (x, y, width) in zip(knees, reference, strict=True):
        assert np.hypot(knee.centre[0] - x, knee.centre[1] - y) < 0.08 * width
        assert 0.8 < knee.width / width < 1.2
        assert knee.image.shape == (knee.width, knee.width) and knee.image.dtype == image.dtype


def test_the_crop_shows_the_film_and_is_black_beyond_it():
    image, _ = film(0)
    (knee, _) = split_film(image)
    left, top = (round(at - (knee.width - 1) / 2) for at in knee.centre)
    padded = np.pad(image, knee.width)
    window = (slice(start + knee.width, start + 2 * knee.width) for start in (top, left))
    np.testing.assert_array_equal(knee.image, padded[tuple(window)])


@pytest.mark.parametrize(
    ("orientation", "sides", "from_left"),
    [
        ("", ["R", "L"], True),
        (r"L\F", ["R", "L"], True),
        (r"R\F", ["R", "L"], False),
        (r"RF\F", ["R", "L"], False),
        (r"A\F", ["", ""], True),
    ],
)
def test_sides_follow_the_orientation(orientation, sides, from_left):
    knees = split_film(film(1)[0], orientation=orientation)
    assert [knee.side for knee in knees] == sides
    assert (knees[0].centre[0] < knees[1].centre[0]) == from_left


def test_exposure_and_bit_depth_do_not_move_the_joint():
    image = film(2)[0].astype(float)
    image /= image.max()
    bright, dark = (np.rint(image * 200).astype(np.uint8), np.rint(image * 9000 + 1000).astype(np.uint16))
    for one, other in zip(split_film(bright), split_film(dark), strict=True):
        assert one.width == other.width
        assert np.hypot(*np.subtract(one.centre, other.centre)) < 0.02 * one.width


def test_single_knees_are_not_split_and_stay_whole():
    counts = measure_singles(phantoms().reshape(-1, SIZE, SIZE))
    assert counts == {"knees": 6, "split as they are": 0, "cropped": 0, "split with margins": 0}
    knee = phantoms()[0, 0]
    (found,) = split_film(knee)
    assert found.side == "" and found.centre == ((SIZE - 1) / 2, (SIZE - 1) / 2)
    np.testing.assert_array_equal(found.image, knee)


def test_a_single_knee_on_a_large_film_is_cropped():
    image, reference = film(4)
    x, y, width = reference[0]
    image = image[:, : image.shape[1] // 2]
    (found,) = split_film(np.pad(image, ((width, width), (0, 0)), mode="edge"))
    assert found.width < 1.2 * width
    assert np.hypot(found.centre[0] - x, found.centre[1] - y - width) < 0.08 * width
    middle, wide = joint_centre(image)
    assert np.hypot(middle[0] - x, middle[1] - y) < 0.08 * width and 0.8 < wide / width < 1.2


def test_bare_shafts_are_no_knees():
    rng = np.random.default_rng(0)
    streaks = np.repeat(rng.integers(0, 255, (1, 300), np.uint8), 200, axis=0)
    assert len(split_film(streaks)) == 1


def test_split_never_and_always():
    image, _ = film(3)
    assert len(split_film(image, split="never")) == 1
    assert [knee.side for knee in split_film(phantoms()[0, 0], split="always")] == ["R", "L"]


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (8, 8), (8, 60)])
def test_a_blank_film_is_kept_whole(shape):
    (found,) = split_film(np.zeros(shape, np.uint8))
    assert found.image.shape == (min(shape), min(shape)) and not found.image.any()


@pytest.mark.parametrize(
    ("image", "split", "message"),
    [
        (np.zeros((20, 20), np.float32), "auto", "film: got float32 20 x 20; give uint8 or uint16"),
        (np.zeros((20, 20, 3), np.uint8), "auto", "20 x 20 x 3"),
        (np.zeros((4, 20), np.uint8), "auto", "8 pixels or more"),
        (np.zeros((20, 20), np.uint8), "both", "no such split: 'both'; use auto, never, always"),
    ],
)
def test_bad_input_says_what_to_do(image, split, message):
    with pytest.raises(InputError, match=message):
        split_film(image, split=split)


def test_a_thumbnail_shows_one_knee():
    film = np.hstack(phantoms()[0])
    assert shows_both_knees(film)
    assert not shows_both_knees(np.ascontiguousarray(film[::3, ::3]))
