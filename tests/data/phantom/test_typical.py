import numpy as np
import pytest

from koa_lightning.data.phantom.typical import typical_phantoms


@pytest.mark.parametrize("size", [32, 56])
def test_both_knees_of_32_patients_the_same_each_time(size):
    first, second = (np.stack(list(typical_phantoms(size))) for _ in range(2))
    assert first.shape == (64, size, size) and first.dtype == np.uint8
    assert np.array_equal(first, second)
