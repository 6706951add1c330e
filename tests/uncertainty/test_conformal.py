import numpy as np
import pytest
import torch
from crepes import ConformalClassifier
from crepes.extras import hinge
from hypothesis import given
from hypothesis import strategies as st

from koa_lightning.errors import InputError
from koa_lightning.uncertainty import conformal, patients

ROWS = st.lists(st.floats(0.001, 1), min_size=5, max_size=5).map(lambda row: np.array([row]) / sum(row))


def test_scores_by_hand():
    p = np.array([[0.1, 0.5, 0.25, 0.1, 0.05], [0.0, 0.0, 0.1, 0.3, 0.6]])
    assert np.allclose(conformal.scores(p), [[0.75, 0, 0.5, 0.85, 0.95], [1.0, 1.0, 0.9, 0.6, 0]])
    low, high = conformal.sets(p, 0.8)
    assert (low.tolist(), high.tolist()) == ([0, 3], [2, 4])
    assert [conformal.words(a, b) for a, b in zip(low, high, strict=True)] == ["0 to 2", "3 or 4"]
    assert conformal.words(3, 3) == "3"


@given(ROWS, st.floats(0, 1), st.floats(0, 1))
def test_sets_are_contiguous_hold_the_most_probable_grade_and_grow(p, one, other):
    members = conformal.scores(p) <= min(one, other)
    low, high = conformal.sets(p, min(one, other))
    assert members[0].sum() == high[0] - low[0] + 1
    assert low[0] <= p[0].argmax() <= high[0]
    lower, higher = conformal.sets(p, max(one, other))
    assert lower[0] <= low[0] and higher[0] >= high[0]


@given(ROWS)
def test_a_set_is_the_smallest_of_its_growth_that_holds_enough(p):
    """The definition of Lu 2022: grow while what is held is at most the limit."""
    limit = 0.7
    low = high = int(p[0].argmax())
    while p[0, low : high + 1].sum() <= limit + 1e-12 and (low, high) != (0, 4):
        left = p[0, low - 1] if low > 0 else -1
        right = p[0, high + 1] if high < 4 else -1
        low, high = (low, high + 1) if right > left else (low - 1, high)
    ours = conformal.sets(p, limit)
    assert (int(ours[0][0]), int(ours[1][0])) == (low, high)


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_one_knee_a_patient_is_what_crepes_does(simulate, alpha):
    """With the usual score, 1 - p(true grade), whose sets need not be contiguous."""
    logits, grade, _ = simulate(500)
    p = logits.softmax(1).double().numpy()
    fitted, rest = slice(0, 400), slice(400, None)
    score = hinge(p[fitted], np.arange(5), grade[fitted])
    theirs = ConformalClassifier().fit(score)
    given_sets = theirs.predict_set(hinge(p[rest]), confidence=1 - alpha, smoothing=False)
    limit = conformal.quantile(score, np.arange(400), alpha)
    assert np.array_equal(1 - p[rest] <= limit, np.asarray(given_sets, dtype=bool))


def test_the_limit_by_hand():
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert conformal.quantile(score, np.arange(9), 0.1) == 0.9
    assert conformal.quantile(score, np.arange(9), 0.2) == 0.8
    assert conformal.quantile(score, np.arange(9), 0.05) == conformal.EVERYTHING  # too few
    # patients weigh alike: the one with eight knees of score 0.1 is one of three
    group, score = np.array([0] * 8 + [1, 2]), np.array([0.1] * 8 + [0.5, 0.9])
    assert conformal.quantile(score, group, 0.5) == 0.5
    assert conformal.quantile(score, group, 0.25) == 0.9


@given(st.integers(10, 60), st.randoms())
def test_at_least_as_many_are_covered_as_promised_on_the_split_itself(n, random):
    score = np.array([random.random() for _ in range(n)])
    group = np.array([random.randrange(n // 3 + 1) for _ in range(n)])
    shares = patients.shares(group)
    for alpha in (0.1, 0.25):
        assert shares[score <= conformal.quantile(score, group, alpha)].sum() >= 1 - alpha - 1e-9


def test_coverage_on_new_patients(simulate):
    """On average over validation splits; the full simulation is `python -m benchmarks.conformal`."""
    covered = []
    for seed in range(40):
        logits, grade, patient = simulate(400, seed)
        p, group = logits.softmax(1).numpy(), patients.groups(patient)
        entry = conformal.fit(p[:400], grade[:400], group[:400])
        low, high = conformal.sets(p[400:], conformal.chosen(entry, 0.1))
        covered.append(((low <= grade[400:]) & (grade[400:] <= high)).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_what_a_checkpoint_keeps(simulate):
    logits, grade, patient = simulate(60)
    p, group = logits.softmax(1).numpy(), patients.groups(patient)
    entry = conformal.fit(p, grade, group)
    plain = entry.to_plain()
    assert conformal.ConformalSets.wrong(plain) == ""
    assert conformal.ConformalSets.from_plain(plain) == entry
    own = conformal.scores(p)[np.arange(len(grade)), grade]
    assert conformal.chosen(entry, 0.1) == conformal.quantile(own, group, 0.1)
    assert conformal.chosen(entry, 0.01) == conformal.EVERYTHING  # of 60 patients
    for alpha in (0.005, 0.55, 0.123):
        with pytest.raises(InputError, match=r"alpha=.*: must be one of 0\.01"):
            conformal.chosen(entry, alpha)
    for change in ({"limits": None}, {"limits": [0.5] * 3}, {"limits": [2.0] * 50}, {"limits": ["x"] * 50}):
        assert "must" in conformal.ConformalSets.wrong(plain | change)
    assert "decreasing" in conformal.ConformalSets.wrong(plain | {"limits": plain["limits"][::-1]})


def test_measured_by_grade():
    low, high = np.array([0, 0, 2, 3]), np.array([0, 1, 2, 4])
    computed = conformal.evaluate(low, high, np.array([0, 2, 2, 4]), 0.1)
    assert (computed["coverage"], computed["mean_size"], computed["target"]) == (0.75, 1.5, 0.9)
    assert computed["by_grade"]["2"] == {"n": 2, "coverage": 0.5, "size": 1.5}
    assert computed["by_grade"]["1"] == {"n": 0, "coverage": None, "size": None}
    assert computed["sizes"] == {"1": 2, "2": 2, "3": 0, "4": 0, "5": 0}


def test_float32_probabilities_of_a_checkpoint_give_its_sets():
    p = torch.softmax(torch.randn(50, 5), 1).numpy()
    score = conformal.scores(p)
    for limit in score[:, 2]:
        low, high = conformal.sets(p, float(limit))
        assert ((low <= 2) & (high >= 2)).sum() == (score[:, 2] <= limit).sum()


def test_a_grade_whose_score_is_the_limit_itself_is_in_the_set():
    p = np.array([[0.5, 0.25, 0.125, 0.125, 0.0]])
    assert [each.tolist() for each in conformal.sets(p, 0.5)] == [[0], [1]]
    assert [each.tolist() for each in conformal.sets(p, np.nextafter(0.5, 0))] == [[0], [0]]
    assert [each.tolist() for each in conformal.sets(p, 0.0)] == [[0], [0]]  # never empty


def test_the_most_probable_grade_may_be_either_end():
    for end, row in ((0, [1.0, 0, 0, 0, 0]), (4, [0, 0, 0, 0, 1.0])):
        low, high = conformal.sets(np.array([row]), 0.99)
        assert (low.tolist(), high.tolist()) == ([end], [end])
        assert conformal.scores(np.array([row]))[0].tolist() == [0.0 if grade == end else 1.0 for grade in range(5)]


def test_of_two_grades_as_probable_the_lower_begins():
    low, high = conformal.sets(np.array([[0.1, 0.4, 0.4, 0.1, 0.0]]), 0.3)
    assert (low.tolist(), high.tolist()) == ([1], [1])


@pytest.mark.parametrize(("alpha", "row"), [(0.01, 0), (0.02, 1), (0.1, 9), (0.5, 49)])
def test_where_an_alpha_stands(alpha, row):
    assert conformal.place(alpha) == row
    assert conformal.chosen(conformal.ConformalSets(quantiles=tuple(float(n) for n in range(50))), alpha) == row
    assert conformal.ALPHAS[row] == alpha and len(conformal.ALPHAS) == 50


@pytest.mark.parametrize("alpha", [0.0, 0.004, 0.51, 1.0, 0.1 + 1e-8, -0.01])
def test_an_alpha_that_is_none(alpha):
    with pytest.raises(InputError, match=rf"^alpha={alpha:g}: must be one of 0\.01, 0\.02 \.\.\. 0\.5$"):
        conformal.place(alpha)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([1.0] * 50, ""), ([0.0] * 50, ""), ([1.0] * 25 + [0.0] * 25, ""),
        ([0.0] * 25 + [1.0] * 25, "limits: must be decreasing numbers from 1 to 0"),
        ([1.0] * 49 + [-0.1], "limits: must be decreasing numbers from 1 to 0"),
        ([1.1] + [1.0] * 49, "limits: must be decreasing numbers from 1 to 0"),
        ([1] * 50, "limits: must be decreasing numbers from 1 to 0"),
        ([1.0] * 49, "limits: must be 50 numbers"), ([1.0] * 51, "limits: must be 50 numbers"),
        ((1.0,) * 50, "limits: must be 50 numbers"), (None, "limits: must be 50 numbers"),
    ],
)  # fmt: skip
def test_limits_that_a_checkpoint_may_hold(limits, words):
    assert conformal.ConformalSets.wrong({"limits": limits}) == words


def test_the_limit_where_the_promise_is_met_exactly():
    """Of three patients and the unknown one each weighs a quarter."""
    score = np.array([0.3, 0.1, 0.2])
    limits = [conformal.quantile(score, np.arange(3), alpha) for alpha in (0.5, 0.25, 0.24)]
    assert limits == [0.2, 0.3, conformal.EVERYTHING]
    assert conformal.fit(np.eye(5)[[0, 1]], np.array([0, 1]), np.array([0, 0])).n_patients == 1


def test_a_set_that_ends_at_the_true_grade_holds_it():
    computed = conformal.evaluate(np.array([1, 1, 1, 1]), np.array([3, 3, 3, 3]), np.array([0, 1, 3, 4]), 0.25)
    by_grade = {grade: entry["coverage"] for grade, entry in computed["by_grade"].items()}
    assert by_grade == {"0": 0.0, "1": 1.0, "2": None, "3": 1.0, "4": 0.0}
    assert (computed["alpha"], computed["target"], computed["n_knees"]) == (0.25, 0.75, 4)
    assert computed["sizes"] == {"1": 0, "2": 0, "3": 4, "4": 0, "5": 0}


@pytest.mark.parametrize(("low", "high", "words"), [(0, 0, "0"), (0, 1, "0 or 1"), (0, 2, "0 to 2"), (3, 4, "3 or 4")])
def test_a_set_in_words(low, high, words):
    assert conformal.words(low, high) == words


def test_scores_of_float32_are_summed_in_float64():
    p = torch.softmax(torch.randn(20, 5, generator=torch.Generator().manual_seed(0)), 1).numpy()
    score = conformal.scores(p)
    assert score.dtype == np.float64
    assert np.array_equal(score, conformal.scores(p.astype(np.float64)))
