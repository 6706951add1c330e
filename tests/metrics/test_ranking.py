import numpy as np
import pytest

from koa_lightning.metrics.graded import Graded
from koa_lightning.metrics.ranking import Ranks


@pytest.fixture
def knees():
    """Probabilities of grade 2 or more: .9, .5, .5, .1; the first and the third knee reach it."""
    high = np.array([0.9, 0.5, 0.5, 0.1], dtype=np.float32)
    p = np.zeros((4, 5), dtype=np.float32)
    p[:, 0], p[:, 2] = 1 - high, high
    return Graded(np.array([2, 0, 4, 1]), p, np.array([0, 1, 2, 2]), 3)


def test_knees_of_equal_probability_are_one_step(knees):
    steps = Ranks(knees, 2).steps(np.ones((1, 3)))
    assert steps.true.tolist() == [[1, 2, 2]] and steps.false.tolist() == [[0, 1, 2]]
    assert steps.new_true.tolist() == [[1, 1, 0]] and steps.new_false.tolist() == [[0, 1, 1]]


def test_a_patient_counts_with_its_weight(knees):
    steps = Ranks(knees, 2).steps(np.array([[1, 1, 1], [0, 2, 1]]))
    assert steps.true.tolist() == [[1, 2, 2], [0, 1, 1]]
    assert steps.false.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_the_grade_is_that_from_which_a_knee_is_positive(knees):
    assert Ranks(knees, 4).positive.sum() == 1
    assert Ranks(knees, 1).positive.sum() == 3
