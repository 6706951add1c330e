import numpy as np

from koa_lightning.data.gray import stretch


def test_scaling_survives_the_whole_range_of_float32():
    limits = np.finfo(np.float32)
    assert stretch(np.array([limits.min, 0, limits.max], np.float32), "x").tolist() == [0, 128, 255]
