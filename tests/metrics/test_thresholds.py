import itertools
import json

import numpy as np
import pandas as pd
import pytest

from koa_lightning.errors import InputError
from koa_lightning.metrics import thresholds
from koa_lightning.metrics.graded import of_table
from koa_lightning.metrics.intervals import with_intervals
from koa_lightning.metrics.weighted import of_grades


def value(table, cuts, objective="quadratic_kappa"):
    return with_intervals(table, n_resamples=1, thresholds=cuts)[f"{objective}_tuned"].value


def quadratic_kappa(reference, grade):
    by_chance = np.square(reference[:, None] - grade[None]).mean()
    return 1 - np.square(reference - grade).mean() / by_chance


@pytest.mark.parametrize("objective", sorted(of_grades()))
@pytest.mark.parametrize("seed", [0, 1])
def test_never_worse_than_rounding_where_they_were_tuned(graded_table, objective, seed):
    table = graded_table(80, seed=seed, sharpness=0.4)
    found = thresholds.tune(table, objective)
    sign = -1 if objective == "mae" else 1
    tuned, rounded = value(table, found["thresholds"], objective), value(table, [0.5, 1.5, 2.5, 3.5], objective)
    assert sign * tuned >= sign * rounded
    assert found["thresholds"] == thresholds.check(found["thresholds"])
    if objective == "quadratic_kappa":
        assert tuned > rounded + 0.01  # flat probabilities draw the expected grade to the middle


def test_close_to_the_best_of_all(graded_table):
    """By trying every cut of a few knees."""
    for seed in range(4):
        table = graded_table(6, seed=seed, reference=seed)
        graded = of_table(table)
        order = np.sort(graded.expected)
        places = [*(order[:-1] + order[1:]) / 2, -1, 5]
        best = max(
            quadratic_kappa(graded.grade, np.digitize(graded.expected, cuts))
            for cuts in itertools.combinations_with_replacement(sorted(places), 4)
        )
        assert value(table, thresholds.tune(table)["thresholds"]) >= best - 0.05


def test_what_needs_no_tuning_stays_as_it_is(graded_table):
    table = graded_table(40)
    table[[f"p{k}" for k in range(5)]] = np.eye(5)[table["grade"].to_numpy(dtype=int)]
    assert thresholds.tune(table)["thresholds"] == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize("grades", [[0], [4], [2], [0, 4]])
def test_grades_that_are_missing(graded_table, grades):
    table = graded_table(40)
    found = thresholds.tune(table[table["grade"].isin(grades)])
    assert thresholds.check(found["thresholds"]) == found["thresholds"]


def test_plain_values_that_name_the_knees(graded_table):
    table = graded_table(20)
    found = thresholds.tune(table)
    assert json.loads(json.dumps(found)) == found
    assert (found["n_knees"], found["n_patients"], found["objective"]) == (40, 20, "quadratic_kappa")
    assert found["knees"] == thresholds.name_of_knees(table.sample(frac=1, random_state=1))
    assert found["knees"] != thresholds.name_of_knees(table.iloc[1:])


def test_read_from_json_or_a_table(graded_table, tmp_path):
    val, test = graded_table(40), graded_table(30, reference=1)
    test["patient"], test["path"] = "t" + test["patient"], "/test" + test["path"]
    found = thresholds.tune(val)
    (tmp_path / "thresholds.json").write_text(json.dumps(found))
    val.to_csv(tmp_path / "val.csv", index=False)
    for file in ("thresholds.json", "val.csv", "."):
        assert thresholds.read(tmp_path / file, test)["thresholds"] == pytest.approx(found["thresholds"], abs=1e-6)
    (tmp_path / "plain.json").write_text("[0.4, 1.4, 2.4, 3.4]")
    assert thresholds.read(tmp_path / "plain.json", test)["thresholds"] == [0.4, 1.4, 2.4, 3.4]


def test_what_was_tuned_on_what_is_measured_is_refused(graded_table, tmp_path):
    table = graded_table(40)
    (tmp_path / "own.json").write_text(json.dumps(thresholds.tune(table)))
    with pytest.raises(InputError, match="tuned on the evaluated knees"):
        thresholds.read(tmp_path / "own.json", table)
    table.head(10).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(InputError, match="patient 0000 and 4 more are in the evaluated table too"):
        thresholds.read(tmp_path / "own.csv", table)


def test_one_knee_that_was_tuned_on_is_enough(graded_table, tmp_path):
    val, test = graded_table(40), graded_table(30, reference=1)
    test["patient"], test["path"] = "t" + test["patient"], "/test" + test["path"]
    (tmp_path / "val.json").write_text(json.dumps(thresholds.tune(val)))
    for computed, n in ((val.iloc[1:], 40), (pd.concat([test, val]), 40), (pd.concat([test, val.tail(1)]), 1)):
        with pytest.raises(InputError, match=rf"tuned on {n} of the evaluated patients \(knees, where no patient is"):
            thresholds.read(tmp_path / "val.json", computed)
    val.assign(patient="").to_csv(tmp_path / "nobody.csv", index=False)
    with pytest.raises(InputError, match="tuned on 79 of the evaluated patients"):
        thresholds.read(tmp_path / "nobody.csv", val.assign(patient="").iloc[1:])
    assert thresholds.read(tmp_path / "nobody.csv", test.assign(patient=""))["n_knees"] == 80


def test_hashes_name_patients_or_paths_of_known_grade():
    rows = pd.DataFrame(
        {"patient": ["a", "a", "", "", ""], "path": ["1", "2", "a", "", "3"], "grade": [0, 1, 2, 3, None]}
    )
    assert len(thresholds.hashes_of(rows)) == 2  # the patient, and the third knee by its path
    assert thresholds.hashes_of(rows.drop(columns=["patient", "path"])) == set()
    assert thresholds.hashes_of(rows.head(1)) == thresholds.hashes_of(rows.head(2).assign(path="elsewhere"))


@pytest.mark.parametrize("hashes", [None, "abc", 3, [3, {}]])
def test_entries_without_hashes_are_known_by_the_whole_set(hashes, graded_table):
    table = graded_table(20)
    old = {**thresholds.tune(table), "hashes": hashes}
    assert thresholds.tuned_on(old, table) == "the evaluated knees"
    assert thresholds.tuned_on(old, table.iloc[1:]) == ""


@pytest.mark.parametrize(
    "content", ["{", "[3, 2, 1, 0]", "[1, 2]", '{"thresholds": null}', '["a", "b", "c", "d"]', "3"]
)
def test_what_are_no_thresholds(content, tmp_path):
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match="thresholds="):
        thresholds.read(tmp_path / "bad.json", pd.DataFrame({"grade": [1]}))


def test_an_entry_of_a_checkpoint():
    assert thresholds.wrong({"thresholds": [0.5, 1.5, 2.5, 3.5]}) == ""
    assert (
        thresholds.wrong({"thresholds": [3, 2, 1, 0]})
        == thresholds.wrong({})
        == ("thresholds are not four rising numbers")
    )


def test_what_is_no_objective(graded_table):
    with pytest.raises(InputError, match="objective=auroc_oa: must be one of accuracy"):
        thresholds.tune(graded_table(10), "auroc_oa")


@pytest.mark.parametrize(
    ("expected", "cut", "default", "place"),
    [
        ([0.2, 1.0], 1, 0.5, 0.5),  # between the two
        ([0.5, 1.0], 1, 0.5, 0.75),  # the knee below would reach the default
        ([0.2, 0.5], 1, 0.5, 0.5),  # the knee above just reaches it
        ([0.2, 0.4], 1, 0.5, 0.3),
        ([0.6, 1.0], 0, 0.5, 0.5),  # nobody below
        ([0.4, 1.0], 0, 0.5, 0.4),
        ([0.2, 0.4], 2, 0.5, 0.5),  # nobody above
        ([0.2, 0.6], 2, 0.5, 4.0),
    ],
)
def test_where_a_threshold_stands_between_two_knees(expected, cut, default, place):
    found = thresholds._between(np.array(expected), cut, default)
    assert found == pytest.approx(place)
    assert [value >= found for value in expected] == [row >= cut for row in range(len(expected))]


def test_thresholds_may_coincide_but_not_fall():
    assert thresholds.check([1, 1, 2, 2]) == [1.0, 1.0, 2.0, 2.0]
    with pytest.raises(InputError, match="four rising numbers"):
        thresholds.check([1, 0.99, 2, 2])


@pytest.mark.parametrize("column", ["patient", "side", "grade", "path"])
def test_another_patient_side_grade_or_file_is_another_set_of_knees(graded_table, column):
    table = graded_table(6).assign(path=[f"/x/{number}.png" for number in range(12)], side=["L", "R"] * 6)
    other = table.copy()
    other.loc[3, column] = {"patient": "nobody", "side": "L", "grade": (table["grade"][3] + 1) % 5, "path": "/x/z.png"}[
        column
    ]
    assert thresholds.name_of_knees(other) != thresholds.name_of_knees(table)
    moved = table.assign(path=table["path"].str.replace("/x/", "/elsewhere/"))
    assert thresholds.name_of_knees(moved) == thresholds.name_of_knees(table)


def test_the_last_knee_counts():
    below = np.vstack([np.zeros(5), np.eye(5)[[0, 1, 2, 3, 4]].cumsum(0)])
    right, wrong = thresholds._score(np.array([[1, 2, 3, 4], [1, 2, 3, 5]]), below, "accuracy")
    assert (right, wrong) == pytest.approx((1.0, 0.8))


def test_a_climb_goes_on_until_nothing_is_gained():
    grade = np.repeat(np.arange(5), 8)
    below = np.vstack([np.zeros(5), np.eye(5)[grade].cumsum(0)])
    steps = np.arange(len(grade) + 1)
    assert thresholds._climb(np.array([0, 0, 0, 0]), below, steps, "accuracy").tolist() == [8, 16, 24, 32]
