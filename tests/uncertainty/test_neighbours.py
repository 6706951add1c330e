import numpy as np
import pytest

from koa_lightning.uncertainty import neighbours


def test_neighbours_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    known, other = rng.normal(size=(60, 8)), rng.normal(size=(10, 8))
    theirs = NearestNeighbors(n_neighbors=5, metric="cosine").fit(known).kneighbors(other)[0][:, -1]
    assert np.allclose(neighbours.distance(other, neighbours.fit(known)), theirs)
    assert np.allclose(neighbours.distance(3 * other, neighbours.fit(known)), theirs)
    assert np.isfinite(neighbours.distance(np.zeros((2, 8)), neighbours.fit(known))).all()


@pytest.mark.parametrize("size", [192, 1280, 1536, 4096])
def test_neighbours_of_any_network_are_few_enough(size):
    assert neighbours.fit(np.ones((2000, size)))["prototypes"].size <= 230_000
