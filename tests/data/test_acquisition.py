"""Simulated acquisitions keep the knee, and change what they say."""

import numpy as np
import pytest

from koa_lightning.data.acquisition import KINDS, simulate
from koa_lightning.data.cache import decode_phantoms
from koa_lightning.data.phantom.manifest import phantom_manifest


@pytest.fixture(scope="module")
def knee():
    path = phantom_manifest(2, 0, (0.2,) * 5)["path"].tolist()[:1]
    return decode_phantoms(path, 200)[0]


def alike(one, other):
    import cv2

    small = [cv2.resize(each, (32, 32), interpolation=cv2.INTER_AREA).astype(float).ravel() for each in (one, other)]
    return np.corrcoef(*small)[0, 1]


@pytest.mark.parametrize("kind", [*KINDS, "any"])
def test_the_knee_stays(kind, knee):
    for seed in range(8):
        made = simulate(knee, kind, np.random.default_rng(seed))
        assert made.dtype == np.uint8 and made.ndim == 2
        if kind not in ("crop", "any"):  # these move what lies where
            assert alike(knee, made) > 0.6
        assert made.std() > 5 and 0.25 < made.mean() / knee.mean() < 4
        if kind != "marker":
            assert made.shape != knee.shape or (made != knee).any()


@pytest.mark.parametrize("kind", [*KINDS, "any"])
def test_the_same_generator_gives_the_same_picture(kind, knee):
    one, two = (simulate(knee, kind, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, two)
    assert np.array_equal(knee, decode_phantoms(phantom_manifest(2, 0, (0.2,) * 5)["path"].tolist()[:1], 200)[0])


def test_resolutions_are_those_of_archives(knee):
    longest = [max(simulate(knee, "resolution", np.random.default_rng(seed)).shape) for seed in range(40)]
    assert min(longest) >= 336 and max(longest) <= 2000 and np.ptp(longest) > 800


def test_softness_goes_both_ways(knee):
    def edges(image):
        return np.abs(np.diff(image.astype(float), axis=0)).mean()

    found = [edges(simulate(knee, "softness", np.random.default_rng(seed))) / edges(knee) for seed in range(20)]
    assert min(found) < 0.97 and max(found) > 1.03


def test_a_border_is_black_and_a_marker_is_bright(knee):
    bright = np.maximum(knee, 20)
    bordered = simulate(bright, "borders", np.random.default_rng(0))
    assert 0.01 < (bordered == 0).mean() < 0.4
    marked = simulate(np.zeros_like(knee), "marker", np.random.default_rng(0))
    assert marked.max() == 255 and 0.001 < (marked > 128).mean() < 0.05
