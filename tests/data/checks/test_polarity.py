import numpy as np
import pytest

from koa_lightning.data.checks import polarity
from koa_lightning.data.phantom import draw_phantoms, phantom_manifest


@pytest.fixture(scope="module")
def knees():
    rows = phantom_manifest(30, seed=77)
    return draw_phantoms(rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=77, size=96)


def test_inverted_knees_are_told_from_upright_ones(knees):
    assert not polarity.inverted(knees).any()
    assert polarity.inverted(255 - knees).all()


def test_scores_change_sign_and_nothing_else(knees):
    np.testing.assert_allclose(polarity.scores(255 - knees), -polarity.scores(knees), atol=1e-5)
    assert (np.abs(polarity.scores(knees)) <= 1).all()


@pytest.mark.parametrize("gamma", [0.6, 1.6])
def test_exposure_and_noise_do_not_matter(knees, gamma):
    noise = np.random.default_rng(0).normal(0, 12, knees.shape)
    exposed = np.clip(255 * (knees / 255) ** gamma + noise, 0, 255).astype(np.uint8)
    assert not polarity.inverted(exposed).any()
    assert polarity.inverted(255 - exposed).all()


def test_any_size_and_shape(knees):
    wide = np.pad(knees[:2], ((0, 0), (0, 0), (20, 20)), mode="edge")
    assert polarity.scores(wide).shape == (2,)
    assert not polarity.inverted(wide).any()


def test_a_blank_image_says_nothing():
    assert polarity.scores(np.full((1, 64, 64), 90, np.uint8)).tolist() == [0.0]
    assert polarity.scores(np.zeros((0, 64, 64), np.uint8)).shape == (0,)
