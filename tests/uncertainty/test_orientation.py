import numpy as np
import pytest

from koa_lightning.uncertainty import orientation

SIDE = 6


@pytest.fixture(scope="module")
def pictures():
    """Pictures with a bright corner at the top left, noise, and the mean 0."""
    rng = np.random.default_rng(0)
    squares = rng.normal(scale=0.3, size=(200, SIDE, SIDE))
    squares[:, :2, :3] += 2
    flat = squares.reshape(200, -1)
    return flat - flat.mean(1, keepdims=True)


@pytest.mark.parametrize("way", orientation.WAYS)
def test_each_way_of_being_wrong_is_told_from_upright(way, pictures):
    model = orientation.fit(pictures[:100])
    turned = orientation.WAYS[way](pictures[100:].reshape(-1, SIDE, SIDE)).reshape(100, -1)
    assert (orientation.ratio(turned, model) > 1).mean() > 0.95
    assert (orientation.ratio(pictures[100:], model) > 1).mean() < 0.1


def test_the_middle_of_the_upright_ones_is_0_and_the_limit_is_1(pictures):
    model = orientation.fit(pictures)
    for weights, offset, way in zip(model["weights"], model["offsets"], orientation.WAYS.values(), strict=True):
        own = pictures @ weights + offset
        turned = way(pictures.reshape(-1, SIDE, SIDE)).reshape(len(pictures), -1) @ weights + offset
        assert np.median(own) == pytest.approx(0, abs=1e-9)
        assert np.median(turned) == pytest.approx(2, abs=1e-6)  # the limit is half-way


def test_where_the_two_cannot_be_distinguished_few_ordinary_ones_are_over_the_limit():
    noise = np.random.default_rng(1).normal(size=(400, SIDE * SIDE))
    model = orientation.fit(noise)
    for weights, offset in zip(model["weights"], model["offsets"], strict=True):
        assert ((noise @ weights + offset) > 1).mean() <= 1 - orientation.ORDINARY + 1 / 400


def test_turning_back_gives_the_picture_again():
    squares = np.arange(2 * SIDE * SIDE, dtype=float).reshape(2, SIDE, SIDE)
    ways = orientation.WAYS
    assert np.array_equal(ways["three quarter turns"](ways["a quarter turn"](squares)), squares)
    for way in ("inverted", "upside down", "half a turn", "inverted and upside down"):
        assert np.array_equal(ways[way](ways[way](squares)), squares), way
