import numpy as np
import pytest

from koa_lightning.metrics.resampling import block_size, bootstrap_weights, gather


@pytest.mark.parametrize("block", [1, 7, 50, 1000])
def test_the_same_resamples_whatever_the_block(block):
    blocks = list(bootstrap_weights(13, 50, seed=3, block=block))
    assert max(len(each) for each in blocks) <= block
    np.testing.assert_array_equal(np.vstack(blocks), next(bootstrap_weights(13, 50, seed=3, block=50)))


def test_each_resample_draws_as_many_as_there_are_and_each_as_often():
    weights = next(bootstrap_weights(20, 4000, seed=0, block=4000))
    assert weights.shape == (4000, 20) and (weights >= 0).all()
    assert (weights.sum(1) == 20).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.08)
    np.testing.assert_allclose(weights.var(0), 1 - 1 / 20, atol=0.12)
    assert not np.array_equal(weights, next(bootstrap_weights(20, 4000, seed=1, block=4000)))


def test_memory_is_bounded():
    assert [block_size(n) * n <= 2**21 for n in (1, 1656, 10**6)] == [True] * 3
    assert block_size(10**9) == 1


def test_blocks_are_put_together():
    found = gather(bootstrap_weights(4, 10, 0, 3), lambda weights: {"sum": weights.sum(1), "first": weights[:, 0]})
    assert found["sum"].tolist() == [4] * 10 and found["first"].shape == (10,)
