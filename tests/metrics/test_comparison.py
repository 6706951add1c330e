import json

import numpy as np
import pandas as pd
import pytest

from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics import comparison
from koa_lightning.metrics.comparison import compare, holm, match
from koa_lightning.metrics.intervals import with_intervals
from koa_lightning.metrics.weighted import names

NAMES = ("A", "B")
PROBABILITIES = [f"p{grade}" for grade in range(5)]


def test_a_model_against_itself(graded_table):
    table = graded_table(40)
    for name, each in compare(table, table, n_resamples=200).items():
        assert each.first == each.second, name
        assert (each.difference, each.low, each.high, each.p, each.p_holm) == (0, 0, 0, 1, 1), name


def test_values_are_those_of_each_alone(graded_table):
    first, second = graded_table(60), graded_table(60, seed=1, sharpness=0.5)
    found = compare(first, second, n_resamples=100, only=names(("", "_expected")))
    for side, table in (("first", first), ("second", second)):
        alone = with_intervals(table, n_resamples=1)
        for name, each in found.items():
            assert getattr(each, side) == pytest.approx(alone[name].value), name
            if each.note == "":
                assert each.difference == pytest.approx(each.first - each.second)


def test_a_better_model_is_told_from_chance_and_a_like_one_is_not(graded_table):
    good = graded_table(150)
    true = np.eye(5)[good["grade"].to_numpy(dtype=int)]
    better = good.copy()
    better[PROBABILITIES] = 0.7 * good[PROBABILITIES] + 0.3 * true
    found = compare(better, good, n_resamples=300)["rps"]
    assert found.low <= found.difference <= found.high < 0 and found.p == pytest.approx(1 / 301)
    alike = compare(good, graded_table(150, seed=1), n_resamples=300)["rps"]
    assert alike.low < 0 < alike.high and alike.p > 0.05


def test_the_permutation_swaps_the_predictions_of_patients(graded_table):
    """By hand: tables in which the rows of some patients are exchanged."""
    first, second = graded_table(12), graded_table(12, seed=1)
    only = ("accuracy", "quadratic_kappa", "auroc_oa", "ece")
    kept = next(comparison._coins(12, 20, 3, 20)).astype(bool)
    observed = {name: each.difference for name, each in compare(first, second, n_resamples=1, only=only).items()}
    as_much = dict.fromkeys(only, 1)
    for coin in kept:
        mine = np.repeat(coin, 2)[:, None]  # two rows a patient, in order
        one, other = first.copy(), second.copy()
        one[PROBABILITIES] = np.where(mine, first[PROBABILITIES], second[PROBABILITIES])
        other[PROBABILITIES] = np.where(mine, second[PROBABILITIES], first[PROBABILITIES])
        a, b = (with_intervals(table, n_resamples=1, only=only) for table in (one, other))
        for name in only:
            as_much[name] += abs(a[name].value - b[name].value) >= abs(observed[name]) - 1e-12
    found = compare(first, second, n_resamples=20, seed=3, only=only)
    assert {name: each.p for name, each in found.items()} == pytest.approx({n: k / 21 for n, k in as_much.items()})


def test_p_values_of_like_models_are_even():
    """Two models that differ by chance alone: p at most .3 in about three tenths of studies."""
    rng = np.random.default_rng(0)
    small = 0
    for _ in range(40):
        tables = []
        grade = rng.integers(0, 5, 40)
        for _ in range(2):
            p = rng.dirichlet(np.ones(5), 40)
            patient = np.arange(40) // 2
            tables.append(pd.DataFrame(p, columns=PROBABILITIES).assign(grade=grade, patient=patient))
        small += compare(*tables, n_resamples=99, only=("rps",))["rps"].p <= 0.3
    assert 4 <= small <= 20  # 12 expected, sd 2.9


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1, "b": 1}
    assert holm({}) == {}


def test_what_cannot_be_compared_says_why(graded_table):
    first, second = graded_table(40), graded_table(40, seed=1)
    below = first["grade"] < 2
    found = compare(first[below], second[below], n_resamples=50)
    assert found["auroc_oa"].difference is None and found["auroc_oa"].note.startswith("all knees are below grade 2")
    assert found["accuracy"].p is not None
    alone = compare(first.head(2), second.head(2), n_resamples=50, only=("accuracy",))["accuracy"]
    assert alone.low is None and alone.p_holm is None and "only one patient" in alone.note
    first.loc[first["grade"] == 4, "grade"] = 3
    first.loc[0, "grade"] = 4
    rare = compare(first, second.assign(grade=first["grade"]), n_resamples=200, only=("recall_4",))["recall_4"]
    assert rare.difference is not None and rare.low is None and "no interval" in rare.note


def test_as_table_and_json(graded_table):
    found = compare(graded_table(30), graded_table(30, seed=1), n_resamples=50)
    assert comparison.to_table(found)["metric"].tolist() == chosen("compared")
    assert json.loads(json.dumps(comparison.to_json(found), allow_nan=False))["mae"]["p"] == found["mae"].p


def test_knees_are_matched_whatever_their_order_and_folder(graded_table):
    first = graded_table(20)
    second = graded_table(20, seed=1).sample(frac=1, random_state=0)
    a, b = match(first, second, NAMES)
    assert a["path"].tolist() == b["path"].tolist() == first["path"].tolist()
    moved = second.assign(path="/other" + second["path"])
    assert match(first, moved, NAMES)[1]["patient"].tolist() == first["patient"].tolist()
    renamed = second.assign(path=[f"/other/{i}.png" for i in range(40)])
    assert match(first, renamed, NAMES)[1]["side"].tolist() == first["side"].tolist()
    unnamed = second.assign(patient="")
    assert match(first, unnamed, NAMES)[1]["patient"].tolist() == first["patient"].tolist()


def test_tables_that_are_not_of_the_same_knees(graded_table):
    first = graded_table(20)
    with pytest.raises(InputError, match=r"A and B are not of the same knees: by path, 3 only in A \(e.g. /data/0000L"):
        match(first, first.iloc[3:], NAMES)
    with pytest.raises(InputError, match="not of the same knees"):
        match(first, first.assign(path="x" + first.index.astype("str"), patient="x" + first["patient"]), NAMES)
    bare = first.assign(path="", patient="", side="")
    with pytest.raises(InputError, match="neither path nor patient and side identify every knee"):
        match(bare, bare, NAMES)


def test_tables_of_another_truth(graded_table):
    first, second = graded_table(20), graded_table(20)
    second.loc[4, "grade"] = (second.loc[4, "grade"] + 1) % 5
    with pytest.raises(InputError, match=r"grade of /data/0002L.png is . in one and . in the other \(1 such knees\)"):
        match(first, second, NAMES)
    second = graded_table(20)
    second.loc[3, "grade"] = pd.NA
    with pytest.raises(InputError, match="the same reference grades"):
        match(first, second, NAMES)
    first.loc[3, "grade"] = pd.NA
    assert match(first, second, NAMES)[0]["grade"].isna().sum() == 1
    with pytest.raises(InputError, match="patient of"):
        match(first, second.assign(patient="x"), NAMES)


@pytest.mark.parametrize(("undefined", "has"), [(5, True), (6, False)])
def test_how_many_resamples_may_be_undefined(undefined, has):
    drawn = np.linspace(0.0, 0.2, 100)
    drawn[:undefined] = np.nan
    found = comparison._difference("accuracy", (0.6, 0.5), {"accuracy": drawn}, {"accuracy": drawn}, 0.95, [])
    assert (found.low is not None) == has
    assert ("no interval: undefined in 6% of the resamples" in found.note) != has


def test_a_permutation_that_differs_as_much_counts_against_the_difference():
    swapped = np.array([0.25, -0.25, 0.125, 0.0])
    found = comparison._difference("mae", (0.5, 0.25), {"mae": np.linspace(0, 0.5, 9)}, {"mae": swapped}, 0.95, [])
    assert found.p == pytest.approx((1 + 2) / (1 + 4))
