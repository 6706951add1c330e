import numpy as np
import pytest

from koa_lightning.data.audit import features
from koa_lightning.data.phantom.manifest import draw_phantoms, phantom_manifest

SIZE = 224


@pytest.fixture(scope="module")
def knees():
    rows = phantom_manifest(24, seed=5)
    return draw_phantoms(rows["patient"].tolist(), rows["side"].tolist(), rows["grade"].tolist(), seed=5, size=SIZE)


def test_marks_are_upright_strong_and_once(knees):
    found = features.extract(knees[0], 40)
    assert found.points.shape == (40, 3)
    assert found.descriptors.shape == (40, 128)
    np.testing.assert_allclose((found.descriptors**2).sum(1), 1, atol=1e-4)
    assert len({tuple(point) for point in found.points.round(1).tolist()}) == 40
    both = list(features.extract_all(np.stack([knees[1], knees[0]]), 40))
    np.testing.assert_array_equal(both[1].descriptors, found.descriptors)
