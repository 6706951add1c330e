"""Parts on several threads: each computes alone, and torch's own number of threads stays."""

import pytest
import torch

from koa_lightning.training.augmentation import FusedAugmentation, RandomMeanContrast, container, threads


@pytest.fixture(params=[1, 2])
def number(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_each_number_once_and_alone(number):
    seen = []
    threads.for_each(lambda i: seen.append((i, torch.get_num_threads())), range(7))
    assert sorted(i for i, _ in seen) == list(range(7))
    assert {n for _, n in seen} == {1} and torch.get_num_threads() == number


def test_what_a_part_raises_is_raised(number):
    def fail(i):
        raise ValueError(str(i))

    with pytest.raises(ValueError, match="0"):
        threads.for_each(fail, [0])


def test_any_number_of_threads_gives_the_same(monkeypatch):
    monkeypatch.setattr(container, "CPU_PIXELS", 2 * 30 * 30)
    augment, image = FusedAugmentation({"contrast": RandomMeanContrast(0.3)}), torch.rand(9, 1, 30, 30)
    found, before = [], torch.get_num_threads()
    for n in (1, 2, 3):
        torch.set_num_threads(n)
        found.append(augment(image, torch.Generator().manual_seed(0)))
    torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
