import numpy as np
from scipy.spatial.distance import mahalanobis

from koa_lightning.uncertainty import gaussian


def test_with_all_directions_it_is_the_mahalanobis_distance():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4))
    model = gaussian._fit_once(values)
    assert len(model["directions"]) == 3  # one of the four is the rest, and has its own variance
    precision = np.linalg.inv(np.cov(values.T))
    centre = values.mean(0)
    ours = gaussian.distance(values[:20], model)
    theirs = [mahalanobis(row, centre, precision) / 2 for row in values[:20]]
    assert np.allclose(ours, theirs, rtol=1e-2)


def test_a_few_strange_knees_in_the_fit_do_no_harm():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(500, 6))
    strange = values.copy()
    strange[:5] += 30
    far = np.full((1, 6), 12.0)
    clean, dirty = (gaussian.distance(far, gaussian.fit(v))[0] for v in (values, strange))
    assert dirty > 0.8 * clean
