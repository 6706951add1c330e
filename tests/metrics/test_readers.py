import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from koa_lightning.errors import InputError
from koa_lightning.metrics.readers import COLUMNS, agreement, check


@pytest.fixture
def table(graded_table):
    rows = graded_table(60)
    rng = np.random.default_rng(0)
    for name in ("reader_1", "reader_2"):
        rows[name] = (rows["grade"].astype(float) + rng.integers(-1, 2, len(rows))).clip(0, 4)
    rows.loc[:9, "reader_2"] = None
    return rows


def test_each_pair_is_the_kappa_of_scikit_learn(table):
    found = agreement(table, ["reader_1", "reader_2"], n_resamples=100, thresholds=[0.5, 1.5, 2.5, 3.5])
    assert list(found.columns) == COLUMNS
    pairs = set(map(tuple, found[["first", "second"]].to_numpy()))
    models = {"model", "model_expected", "model_median", "model_tuned"}
    assert pairs == {("truth", "reader_1"), ("truth", "reader_2"), ("reader_1", "reader_2")} | {
        (other, model) for other in ("truth", "reader_1", "reader_2") for model in models
    }
    reached = table[[f"p{grade}" for grade in range(5)]].cumsum(axis=1) >= 0.5
    table = table.assign(median=reached.to_numpy().argmax(1))
    grades = {
        "truth": "grade",
        "model": "predicted",
        "model_median": "median",
        "reader_1": "reader_1",
        "reader_2": "reader_2",
    }
    kappa = found[found["metric"] == "quadratic_kappa"]
    for row in kappa[~kappa["second"].isin(["model_expected", "model_tuned"])].to_dict("records"):
        both = table[[grades[row["first"]], grades[row["second"]]]].dropna().astype(int)
        expected = cohen_kappa_score(*both.to_numpy().T, labels=range(5), weights="quadratic")
        assert row["value"] == pytest.approx(expected)
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n_knees"] == len(both) == (110 if "reader_2" in row.values() else 120)
    by_rule = kappa[kappa["first"] == "truth"].set_index("second")["value"]
    assert by_rule["model_expected"] == by_rule["model_tuned"]


def test_readers_who_read_no_knee_in_common(table):
    table.loc[10:, "reader_1"] = None
    found = agreement(table, ["reader_1", "reader_2"], n_resamples=100)
    both = found[(found["first"] == "reader_1") & (found["second"] == "reader_2")]
    assert both["value"].isna().all() and set(both["note"]) == {"no knee has both grades"}
    few = found[(found["first"] == "truth") & (found["second"] == "reader_1")]
    assert few["note"].str.contains("5 patients").all()


def test_grades_written_as_text(table):
    as_text = table.assign(reader_2=table["reader_2"].map(lambda grade: " " if pd.isna(grade) else str(int(grade))))
    pd.testing.assert_frame_equal(
        agreement(as_text, ["reader_2"], n_resamples=50), agreement(table, ["reader_2"], n_resamples=50)
    )


@pytest.mark.parametrize(
    ("column", "line"),
    [
        ("readr_1", "readers=readr_1: no such column; did you mean 'reader_1'?"),
        ("side", "readers=side: line 2: 'L' is not one of 0, 1, 2, 3, 4"),
        ("nothing", "readers=nothing: the column is empty"),
    ],
)
def test_what_is_no_reader(table, column, line):
    with pytest.raises(InputError, match=line):
        agreement(table.assign(nothing=None), ["reader_1", column])


@pytest.mark.parametrize(("grade", "is_one"), [(0, True), (4, True), (5, False), (-1, False), (1.5, False)])
def test_the_grades_that_a_reader_may_give(table, grade, is_one):
    read = table.assign(reader_1=float(grade))
    if is_one:
        check(read, ["reader_1"])
    else:
        with pytest.raises(InputError, match=f"readers=reader_1: line 2: '{float(grade)}' is not one of 0, 1, 2, 3, 4"):
            check(read, ["reader_1"])


def test_both_must_have_read_a_knee_and_agreement_is_of_those_alone(table):
    """The first ten knees were read by one reader only: their grades count nowhere in the pair."""
    changed = table.copy()
    changed.loc[:9, "reader_1"] = 4 - changed.loc[:9, "reader_1"]
    one, other = (agreement(each, ["reader_1", "reader_2"], n_resamples=20) for each in (table, changed))
    pair = (one["first"] == "reader_1") & (one["second"] == "reader_2")
    pd.testing.assert_frame_equal(one[pair], other[pair])
    assert not one[~pair].equals(other[~pair])


def test_the_models_grade_at_a_threshold_itself_is_the_higher_one(table):
    """An expected grade of exactly 1.5 is 2 by rounding and by tuned thresholds alike, for every reader."""
    halves = table.assign(**{f"p{grade}": 0.5 if grade in (1, 2) else 0.0 for grade in range(5)}, reader_1=2.0)
    found = agreement(halves, ["reader_1"], n_resamples=20, thresholds=[0.5, 1.5, 2.5, 3.5])
    share = found[(found["first"] == "reader_1") & (found["metric"] == "accuracy")].set_index("second")["value"]
    assert share[["model", "model_expected", "model_tuned"]].tolist() == [0.0, 1.0, 1.0]
