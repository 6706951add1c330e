import numpy as np

from koa_lightning.explain.controls import centre_maps, random_maps, ranks


def test_random_maps_are_as_smooth_as_the_networks_own():
    maps = random_maps(6, (4, 3), (32, 24), seed=0)
    assert maps.shape == (6, 32, 24)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps.min((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(maps.max((1, 2)), 1, atol=1e-5)
    assert np.abs(np.diff(maps, axis=1)).max() < 0.3
    np.testing.assert_array_equal(maps, random_maps(6, (4, 3), (32, 24), seed=0))
    assert not np.array_equal(maps, random_maps(6, (4, 3), (32, 24), seed=1))
    assert abs(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1]) < 0.9


def test_the_centre_prior_falls_from_the_middle():
    (hill, again) = centre_maps(2, (40, 40))
    np.testing.assert_array_equal(hill, again)
    assert hill.max() == hill[19:21, 19:21].min()
    assert (np.diff(hill[:20, 20]) > 0).all()
    np.testing.assert_allclose(hill[30, 20], np.exp(-((10.5 / 40) ** 2 + (0.5 / 40) ** 2) / 2 / 0.25**2), rtol=1e-5)


def test_ranks_are_places_by_heat():
    heat = np.array([[[0.1, 0.9], [0.5, 0.3]]], np.float32)
    np.testing.assert_allclose(ranks(heat, 0), [[[0.75, 0.0], [0.25, 0.5]]])


def test_equal_heat_is_ranked_by_smooth_patches_not_by_rows():
    flat = np.zeros((1, 64, 64), np.float32)
    flat[0, 0, 0] = 1
    places = ranks(flat, 0)
    assert places[0, 0, 0] == 0
    assert len(np.unique(places)) == 64 * 64
    first = places[0] < 0.2
    assert not first[:12].all()
    edges = (first[1:] != first[:-1]).sum()
    assert edges < 400  # scattered pixels would have about 64 x 63 x 0.32 = 1,290
