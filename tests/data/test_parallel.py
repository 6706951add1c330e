import threading
import time
from contextlib import closing

import pytest

from koa_lightning.data.parallel import in_order


def test_results_come_in_the_order_of_the_pieces():
    def slow_first(n):
        time.sleep(0.05 if n == 0 else 0)
        return n * n

    assert list(in_order(slow_first, range(20), threads=4)) == [n * n for n in range(20)]
    assert list(in_order(slow_first, [])) == []


def test_no_more_pieces_are_taken_than_asked_for():
    taken = []

    def pieces():
        for n in range(100):
            taken.append(n)
            yield n

    with closing(in_order(lambda n: n, pieces(), threads=2, ahead=3)) as results:
        for n, result in enumerate(results):
            assert result == n
            assert len(taken) <= n + 3


def test_closing_does_not_wait_for_what_has_not_begun():
    begun, go = [], threading.Event()

    def wait(n):
        begun.append(n)
        go.wait(10 if n else 0)

    results = in_order(wait, range(50), threads=2, ahead=50)
    next(results)
    go.set()
    results.close()
    assert len(begun) < 50


def test_a_fault_comes_out_in_its_place():
    def fail(n):
        if n == 3:
            raise ValueError("three")
        return n

    results = in_order(fail, range(10), threads=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
