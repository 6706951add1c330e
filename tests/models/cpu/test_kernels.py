"""The compiled loops: kept where a folder can be written, compiled again where none can."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from koa_lightning.models.cpu import pixels

THREADS = """
import torch
from koa_lightning.models.cpu import pixels
torch.set_num_threads(1)
pixels.loops()
print(torch.get_num_threads())
"""


@pytest.fixture
def kernels():
    """The loops, with numba's threads started."""
    return pixels.loops()


@pytest.mark.slow
def test_torch_keeps_the_threads_that_it_was_given(with_package):
    done = subprocess.run([sys.executable, "-c", THREADS], env=with_package, capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


@pytest.mark.slow
def test_without_a_folder_to_keep_them_loops_are_compiled_anew_and_it_is_said(kernels, monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(kernels, "njit", njit)
    with pytest.warns(UserWarning, match="every run compiles them"):
        moments = kernels.parallel(kernels.moments.py_func)
    parts = np.empty((2, 2, 3))
    image = np.arange(12, dtype=np.float32).reshape(4, 3)
    moments(image, image[0], parts)
    np.testing.assert_array_equal(parts.sum(0), [[18, 18, 18], [126, 126, 126]])


@pytest.mark.parametrize("rows", [1, 2, 31, 33, 100])
def test_every_row_counts_once_whatever_the_threads(rows, kernels):
    image = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    for threads in (1, 2, 3):
        parts = np.empty((threads, 2, 5))
        kernels.moments(image, np.zeros(5, np.float32), parts)
        np.testing.assert_allclose(parts.sum(0), [image.sum(0), (image**2).sum(0)], rtol=1e-4, atol=1e-5)
