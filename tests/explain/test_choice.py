import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.explain.choice import by_certainty, of_each_grade, of_each_mistake


def test_the_first_knees_of_each_grade():
    assert of_each_grade([2, 0, 0, 2, 0, 4], n=2) == ([1, 2, 0, 3, 5], [""] * 5)


def test_the_surest_mistake_of_each_kind_the_commonest_first():
    grade, predicted = [0, 1, 1, 1, 2, 3], [0, 2, 2, 0, 2, 0]
    shares = np.full((6, 5), 0.1)
    shares[1, 2], shares[2, 2], shares[3, 0], shares[5, 0] = 0.5, 0.6, 0.6, 0.9
    rows, notes = of_each_mistake(grade, predicted, shares)
    assert rows == [2, 3, 5]
    assert notes == ["1 graded 2: 2 knees", "1 graded 0: 1 knee", "3 graded 0: 1 knee"]
    assert of_each_mistake(grade, predicted, shares, n=1)[0] == [2]
    assert of_each_mistake([1], [1], shares[:1]) == ([], [])


def test_the_most_and_the_least_certain():
    largest = np.array([0.5, 0.9, 0.3, 0.7, 0.4])
    shares = np.column_stack([largest, *[(1 - largest) / 4] * 4])
    assert by_certainty(shares, n=2) == (([1, 3], ["90% sure", "70% sure"]), ([2, 4], ["30% sure", "40% sure"]))


@given(st.lists(st.floats(0.2, 1), min_size=1, max_size=20), st.integers(1, 6))
def test_no_knee_is_both_certain_and_not(largest, n):
    shares = np.zeros((len(largest), 5))
    shares[:, 0] = largest
    most, least = by_certainty(shares, n)
    rows = [*most[0], *least[0]]
    assert len(rows) == len(set(rows)) == len([*most[1], *least[1]]) == min(2 * n, len(largest))
