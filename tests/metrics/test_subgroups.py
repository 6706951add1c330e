import numpy as np
import pandas as pd
import pytest

from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.metrics.intervals import with_intervals
from koa_lightning.metrics.subgroups import COLUMNS, UNKNOWN, _in_order, by_subgroup, check, group_of


@pytest.fixture
def table(graded_table):
    rows = graded_table(120)
    rows["site"] = np.where(rows.index < 20, "Graz", "Ulm")
    rows["age"] = np.linspace(40, 80, len(rows)).round(1)
    rows.loc[3, ["site", "age"]] = None
    return rows


def test_each_group_is_measured_by_itself(table):
    found = by_subgroup(table, ["side", "site"], n_resamples=100)
    assert list(found.columns) == COLUMNS
    groups = found[["column", "group"]].drop_duplicates().to_numpy().tolist()
    assert groups == [["all", "all knees"], ["side", "L"], ["side", "R"], ["site", "Graz"], ["site", "Ulm"],
                      ["site", UNKNOWN]]  # fmt: skip
    alone = with_intervals(table[table["side"] == "L"], n_resamples=100)
    for row in found[(found["column"] == "side") & (found["group"] == "L")].to_dict("records"):
        assert (row["value"], row["low"], row["high"]) == (
            alone[row["metric"]].value, alone[row["metric"]].low, alone[row["metric"]].high,
        )  # fmt: skip
        assert (row["n_knees"], row["n_patients"]) == (120, 120)
    assert set(found["metric"]) == set(chosen("by_subgroup"))


def test_a_group_too_small_says_so_and_nothing_else(table):
    found = by_subgroup(table, ["site"], n_resamples=100)
    small = found[found["group"] == "Graz"]
    assert small["value"].isna().all() and small["low"].isna().all()
    assert set(small["note"]) == {"too small to evaluate: 10 patients, at least 30 are needed"}
    assert set(small["n_knees"]) == {19}
    assert found.loc[found["group"] == "Ulm", "value"].notna().all()


def test_numbers_are_cut_into_thirds_or_at_edges(table):
    thirds = by_subgroup(table, ["age"], n_resamples=50, only=("mae",))
    assert thirds["group"].tolist() == ["all knees", "< 53.6", "53.6 to < 66.8", ">= 66.8", UNKNOWN]
    assert max(thirds["n_knees"][1:4]) - min(thirds["n_knees"][1:4]) <= 1
    cut = by_subgroup(table, ["age"], edges={"age": [50, 70]}, n_resamples=50, only=("mae",))
    assert cut["group"].tolist() == ["all knees", "< 50", "50 to < 70", ">= 70", UNKNOWN]
    age = table["age"]
    assert cut["n_knees"].tolist() == [240, (age < 50).sum(), ((age >= 50) & (age < 70)).sum(), (age >= 70).sum(), 1]


def test_few_numbers_are_groups_as_they_are():
    assert group_of(pd.Series([1.0, 2.0, None, 1.0])).tolist() == ["1", "2", UNKNOWN, "1"]
    assert group_of(pd.Series([True, False])).tolist() == ["True", "False"]
    assert group_of(pd.Series(["a ", "", None])).tolist() == ["a", UNKNOWN, UNKNOWN]
    assert group_of(pd.Series([5.0] * 9 + [6.0]), [5.5]).tolist() == ["< 5.5"] * 9 + [">= 5.5"]
    days = group_of(pd.Series([20200101, 20200115, 20200125, 20200131] * 9), [20200110, 20200120, 20200130])
    assert days.unique().tolist() == [
        "< 20200110", "20200110 to < 20200120", "20200120 to < 20200130", ">= 20200130",
    ]  # fmt: skip
    skewed = group_of(pd.Series([0.0] * 90 + list(range(1, 11))))
    assert set(skewed) == {"all numbers"}


def test_grades_as_groups_leave_out_what_they_cannot_say(table):
    twice = pd.concat([table, table.assign(patient="x" + table["patient"])])
    found = by_subgroup(twice, ["grade"], n_resamples=50)
    of_none = found[(found["group"] == "0") & (found["metric"] == "auroc_oa")].iloc[0]
    assert pd.isna(of_none["value"]) and "all knees are below grade 2" in of_none["note"]


@pytest.mark.parametrize(
    ("columns", "edges", "line"),
    [
        (["sides"], {}, "subgroups=sides: no such column; did you mean 'side'?"),
        (["path"], {}, "subgroups=path: has 240 different values"),
        (["side"], {"age": [50]}, r"edges.age: name it in subgroups too: subgroups=\[side,age\]"),
        (["age"], {"age": [50, 40]}, "must be rising numbers"),
        (["age"], {"age": []}, "must be rising numbers"),
        (["side"], {"side": [1]}, "for a column of numbers"),
        (["side"], {"bmi": [1]}, "subgroups=bmi: no such column"),
    ],
)
def test_what_is_no_subgroup(table, columns, edges, line):
    with pytest.raises(InputError, match=line):
        by_subgroup(table, columns, edges=edges)


@pytest.mark.parametrize(("n", "says_something"), [(29, False), (30, True)])
def test_how_many_patients_a_group_needs(n, says_something, graded_table):
    found = by_subgroup(graded_table(n), [], n_resamples=20, only=("accuracy",))
    assert (found["n_patients"].item(), found["value"].notna().item()) == (n, says_something)


@pytest.mark.parametrize(("n", "fits"), [(30, True), (31, False)])
def test_how_many_words_are_still_groups(n, fits):
    table = pd.DataFrame({"site": [f"s{row}" for row in range(n)]})
    if fits:
        check(table, ["site"], {})
    else:
        with pytest.raises(InputError, match="subgroups=site: has 31 different values"):
            check(table, ["site"], {})


@pytest.mark.parametrize(("n", "groups"), [(6, 6), (7, 3)])
def test_how_many_different_numbers_are_groups_as_they_are(n, groups):
    assert group_of(pd.Series([float(row) for row in range(n)] * 3)).nunique() == groups


def test_a_number_on_the_edge_belongs_above_it():
    assert group_of(pd.Series([49.9, 50.0, 69.9, 70.0]), [50, 70]).tolist() == [
        "< 50", "50 to < 70", "50 to < 70", ">= 70",
    ]  # fmt: skip


def test_edges_that_stand_still_are_refused():
    with pytest.raises(InputError, match="must be rising numbers"):
        check(pd.DataFrame({"age": [1.0, 2.0]}), ["age"], {"age": [50, 50]})


def test_ranges_stand_in_rising_order_and_the_unknown_last():
    names = [UNKNOWN, ">= 60", "9 to 60", "< 9"]
    assert _in_order(pd.Series(names)) == ["< 9", "9 to 60", ">= 60", UNKNOWN]
    assert _in_order(pd.Series(["100 to 200", "9 to 60", "60 to 100"])) == [
        "9 to 60",
        "60 to 100",
        "100 to 200",
    ]
