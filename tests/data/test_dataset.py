from importlib import import_module

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data.dataset import EpochSampler, KneeDataset


def orders(sampler, epochs):
    result = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        result.append(list(sampler))
    return result


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_order_depends_on_seed_and_epoch_alone(n, seed, balanced):
    grades = np.arange(n) % 5
    one = orders(EpochSampler(grades, seed, balanced), (0, 1, 2))
    torch.manual_seed(n)
    other = orders(EpochSampler(grades, seed, balanced), (2, 0, 1))
    assert one == [other[1], other[2], other[0]]
    assert all(len(order) == n for order in one)
    if not balanced:
        assert all(sorted(order) == list(range(n)) for order in one)


def test_another_epoch_or_seed_is_another_order():
    grades = np.zeros(200, dtype=np.int8)
    all_of_them = [*orders(EpochSampler(grades, 0, False), range(3)), *orders(EpochSampler(grades, 1, False), range(3))]
    assert len({tuple(order) for order in all_of_them}) == 6


def test_long_orders_are_whole():
    assert sorted(EpochSampler(np.zeros(9000, dtype=np.int8), 0, False)) == list(range(9000))


def test_the_balanced_sampler_balances():
    grades = np.repeat(np.arange(5, dtype=np.int8), [400, 180, 260, 130, 30])
    drawn = grades[np.concatenate(orders(EpochSampler(grades, 0, True), range(10)))]
    assert np.abs(np.bincount(drawn, minlength=5) / len(drawn) - 0.2).max() < 0.02
    absent = np.repeat(np.array([0, 4], dtype=np.int8), [90, 10])
    assert abs(np.mean(absent[list(EpochSampler(absent, 0, True))] == 4) - 0.5) < 0.15


def test_a_dataset_of_plain_arrays_works_too():
    images = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    data = KneeDataset(images, np.array([4, 0, 2]), np.array([3, -1, 0], dtype=np.int8))
    batch = data.__getitems__([2, 1])
    assert len(data) == 3
    assert torch.equal(batch["image"], torch.from_numpy(images[[2, 0]])[:, None])
    assert batch["grade"].tolist() == [0, -1]
    assert data.shapes.tolist() == [[2, 2]] * 3


def test_processes_share_the_knees_of_each_step_of_one_process():
    grades = np.arange(15) % 5
    for balanced in (False, True):
        [one] = orders(EpochSampler(grades, 1, balanced), [1])
        [first], [second] = (orders(EpochSampler(grades, 1, balanced, 2, share), [1]) for share in (0, 1))
        assert len(first) == len(second) == 7  # the fifteenth is omitted
        for step in range(3):
            both = [*first[2 * step : 2 * step + 2], *second[2 * step : 2 * step + 2]]
            assert sorted(both) == sorted(one[4 * step : 4 * step + 4])


def test_reading_a_cache_needs_no_memory_of_its_size(tmp_path):
    """The batches are copies; the pages of the file are the system's, which takes them back when it needs them."""
    memory, reads = (import_module(f"benchmarks.{name}") for name in ("memory", "cache_reads"))
    memory.lay_out_cache(6000, 224, str(tmp_path / "cache"))
    found = reads.read(6000, 224, str(tmp_path / "cache"), room=256 << 20)
    assert found["cache"] > 250e6
    assert found["own"] < 0.25 * found["cache"]
