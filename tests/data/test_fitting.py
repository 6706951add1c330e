import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data.fitting import fit
from koa_lightning.errors import InputError


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 300), st.integers(8, 300), st.integers(8, 300))
def test_letterbox_keeps_the_aspect_and_centres(height, width, size):
    square = fit(np.full((height, width), 255, np.uint8), size, "letterbox")
    assert square.shape == (size, size)
    assert square.dtype == np.uint8
    rows, columns = (np.flatnonzero(square.any(axis=axis)) for axis in (1, 0))
    box = np.array([rows.size, columns.size])
    exact = np.array([height, width]) * size / max(height, width)
    assert np.abs(box - exact).max() <= max(0.5, 1 - exact.min())  # rounded, never thinner than one pixel
    assert box.max() == size
    assert (square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 255).all()
    for place in (rows, columns):
        assert abs(place[0] - (size - 1 - place[-1])) <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 300), st.integers(8, 300), st.integers(8, 300))
def test_stretch_fills_the_square(height, width, size):
    square = fit(np.full((height, width), 200, np.uint8), size, "stretch")
    assert square.shape == (size, size)
    assert (square == 200).all()


@pytest.mark.parametrize("how", ["letterbox", "stretch"])
def test_fit_leaves_the_right_size_alone(how):
    image = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    before = image.copy()
    assert fit(image, 32, how) is image
    assert np.array_equal(image, before)


def test_fit_is_antialiased_and_does_not_overshoot():
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 200  # picking pixels would give 0 or 200
    reduced = fit(stripes, 32, "stretch")
    assert np.abs(reduced.astype(int) - 100).max() <= 8
    edge = np.full((64, 64), 60, np.uint8)
    edge[:, 32:] = 180
    for size in (24, 200):
        assert (fit(edge, size, "stretch").min(), fit(edge, size, "stretch").max()) == (60, 180)


def test_fit_refuses_other_ways_and_sizes():
    image = np.zeros((24, 40), np.uint8)
    with pytest.raises(InputError, match=r"'crop'.*letterbox, stretch"):
        fit(image, 32, "crop")
    with pytest.raises(InputError, match="size 0"):
        fit(image, 0, "stretch")
