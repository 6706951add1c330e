import cv2
import numpy as np
import pytest

from koa_lightning.data import polarity
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest


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


@pytest.mark.parametrize("aspect", [1.25, 1.5, 1.8])
def test_portrait_films_are_told_whether_cut_squeezed_or_with_more_of_the_shafts(knees, aspect):
    width, more = round(96 / aspect), round(48 * (aspect - 1))
    left = (96 - width) // 2
    films = [knee[:, left : left + width] for knee in knees]
    films += [cv2.resize(knee, (width, 96), interpolation=cv2.INTER_AREA) for knee in knees]
    films += list(np.pad(knees, ((0, 0), (more, more), (0, 0)), mode="edge"))
    assert not polarity.inverted(films).any()
    assert polarity.inverted([255 - film for film in films]).all()


def test_square_knees_are_compared_with_the_whole_template_only(knees):
    small = cv2.resize(knees[0].astype(np.float32), (14, 14), interpolation=cv2.INTER_AREA)
    drawn = phantom_manifest(32, seed=0)
    mean = [
        cv2.resize(knee.astype(np.float32), (14, 14), interpolation=cv2.INTER_AREA).ravel()
        for knee in draw_phantoms(drawn["patient"], drawn["side"], drawn["grade"], seed=0, size=112)
    ]
    normed = [(each - each.mean()) / np.linalg.norm(each - each.mean()) for each in mean]
    assert polarity.scores(knees[:1])[0] == pytest.approx(np.corrcoef(small.ravel(), np.mean(normed, axis=0))[0, 1])


@pytest.mark.parametrize("shape", [(1, 1), (40, 1), (1, 40), (400, 3)])
def test_slivers_stop_nothing(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.abs(polarity.scores([pixels])).max() <= 1


def test_a_blank_image_says_nothing():
    assert polarity.scores(np.full((1, 64, 64), 90, np.uint8)).tolist() == [0.0]
    assert polarity.scores(np.full((1, 64, 40), 90, np.uint8)).tolist() == [0.0]
    assert polarity.scores(np.zeros((0, 64, 64), np.uint8)).shape == (0,)
