import numpy as np
import pandas as pd
import pytest

from koa_lightning.errors import InputError
from koa_lightning.metrics.tables import check_predictions, read_predictions

PROBABILITIES = [f"p{grade}" for grade in range(5)]


def refused(table, **options):
    with pytest.raises(InputError) as error:
        check_predictions(table, "T", **options)
    assert "\n" not in str(error.value) and str(error.value).startswith("T: ")
    return str(error.value)


def with_values(table, values):
    return table.assign(**dict(zip(PROBABILITIES, np.asarray(values, dtype=float).T, strict=True)))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_eval_comes_back(graded_table, tmp_path, suffix):
    table = graded_table(20)
    table["patient"] = "00" + table["patient"]
    file = tmp_path / f"predictions.{suffix}"
    table.to_csv(file, index=False) if suffix == "csv" else table.to_parquet(file)
    for place in (file, tmp_path):
        found = read_predictions(place)
        assert list(found.columns) == list(table.columns)
        assert found["patient"].tolist() == table["patient"].tolist()
        assert found["grade"].tolist() == table["grade"].tolist()
        np.testing.assert_allclose(found[PROBABILITIES], table[PROBABILITIES])


def test_grade_and_five_probabilities_are_enough(graded_table, tmp_path):
    graded_table(20)[["grade", *PROBABILITIES]].to_csv(tmp_path / "bare.csv", index=False)
    found = read_predictions(tmp_path / "bare.csv")
    assert set(found["patient"]) == set(found["side"]) == set(found["path"]) == {""}


def test_grades_may_be_unknown_or_written_as_decimals(graded_table):
    table = graded_table(20)
    table["grade"] = table["grade"].astype("float64").where(table.index > 2)
    found = check_predictions(table, "T")
    assert str(found["grade"].dtype) == "Int64" and found["grade"].isna().sum() == 3
    assert len(check_predictions(table.astype({"grade": "str"}).replace({"grade": {"nan": ""}}), "T")) == 40


def test_what_is_missing(graded_table, tmp_path):
    table = graded_table(5)
    assert "column 'grade' is missing; it has path" in refused(table.drop(columns="grade"))
    assert "column 'p3' is missing" in refused(table.drop(columns="p3"))
    assert "no row" in refused(table.iloc[:0])
    assert "the column grade is empty" in refused(table.assign(grade=None))
    assert "line 4: grade '5' is not one of" in refused(table.assign(grade=[1, 1, 5] + [1] * 7))
    assert "grade '2.5'" in refused(table.assign(grade=[2.5] + [1] * 9))
    for place, words in ((tmp_path / "no.csv", "there is no such file"), (tmp_path, "no predictions.parquet or")):
        with pytest.raises(InputError, match=words):
            read_predictions(place)
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(InputError, match="not a readable CSV or Parquet"):
        read_predictions(tmp_path / "bad.parquet")


def test_logits_are_distinguished_and_taken_when_asked(graded_table):
    table = graded_table(20)
    p = table[PROBABILITIES].to_numpy(dtype=float)
    for logits in (3 + 2 * np.log(p), np.log(p)):
        line = refused(with_values(table, logits))
        assert "look like logits: if they are, type logits=true" in line and "line 2: p0 to p4 sum to" in line
    found = check_predictions(with_values(table, np.log(p) + 700), "T", logits=True)
    np.testing.assert_allclose(found[PROBABILITIES], p, atol=1e-6)
    assert "are probabilities already" in refused(table, logits=True)


def test_other_numbers_than_probabilities_are_named(graded_table):
    table = graded_table(20)
    p = table[PROBABILITIES].to_numpy(dtype=float)
    assert "look like percent" in refused(with_values(table, 100 * p))
    assert "look like P(grade >= k)" in refused(with_values(table, p[:, ::-1].cumsum(1)[:, ::-1]))
    half = with_values(table, p * np.where(np.arange(40) < 3, 0.8, 1)[:, None])
    assert "p0 to p4 sum to 0.8, not 1 (3 such lines of 40)" in refused(half)
    assert "(1 such lines)" in refused(table.assign(p2=[np.nan] + [0.1] * 39))
    assert "must be numbers" in refused(table.assign(p2="much"))
    rounded = check_predictions(with_values(table, p.round(2)), "T")  # two decimals sum to 0.99 or 1.01
    assert len(rounded) == 40


def test_truth_and_prediction_swapped(graded_table, capsys):
    table = graded_table(20)
    swapped = table.rename(columns={"grade": "predicted", "predicted": "grade"})
    assert "reference and prediction look swapped" in refused(swapped)
    assert capsys.readouterr().err == ""
    assert len(check_predictions(swapped.drop(columns="predicted"), "T")) == 40
    assert "WARNING: T: grade is the most probable grade in every line" in capsys.readouterr().err


def test_a_prediction_by_another_rule_is_said_or_known(graded_table, capsys):
    table = graded_table(20)
    check_predictions(table, "T")
    rounded = np.floor(table["expected_grade"] + 0.5).astype(int)
    check_predictions(table.assign(predicted=rounded), "T")
    right = with_values(table, np.eye(5)[table["grade"].to_numpy(dtype=int)])
    check_predictions(right.assign(predicted=table["grade"]), "T")  # a perfect model is not swapped
    assert capsys.readouterr().err == ""
    check_predictions(table.assign(predicted=0), "T")
    assert "predicted is the most probable grade in" in capsys.readouterr().err


def test_knees_listed_twice(graded_table):
    table = graded_table(20)
    again = pd.concat([table, table.iloc[[3]]])
    assert "line 42: /data/0001R.png is listed twice (1 such lines)" in refused(again)
    assert "line 42: 0001 is listed twice" in refused(again.drop(columns="path"))
    assert len(check_predictions(table.assign(path=""), "T")) == 40


def test_one_knee_is_a_table(graded_table):
    assert len(check_predictions(graded_table(1).head(1), "T")) == 1


def test_how_much_rounding_probabilities_may_have(graded_table):
    table = graded_table(1)
    for row in ([-0.02, 0.52, 0.5, 0, 0], [0.5, 0.519, 0, 0, 0], [0.5, 0.481, 0, 0, 0]):
        check_predictions(with_values(table, [row] * 2), "T")
    for row in ([-0.021, 0.521, 0.5, 0, 0], [0.5, 0.521, 0, 0, 0], [0.5, 0.479, 0, 0, 0]):
        refused(with_values(table, [row] * 2))


@pytest.mark.parametrize(("n_patients", "is_said"), [(9, False), (10, True)])
def test_from_how_many_knees_on_an_agreement_is_odd(n_patients, is_said, graded_table, capsys):
    table = graded_table(n_patients)  # two knees each
    perfect = with_values(table, np.eye(5)[table["grade"].to_numpy(dtype=int)]).drop(columns="predicted")
    check_predictions(perfect, "T")
    assert ("is it the prediction, not the reference?" in capsys.readouterr().err) == is_said
    swapped = perfect.assign(predicted=(table["grade"].astype(int) + 1) % 5)
    if is_said:
        assert "reference and prediction look swapped" in refused(swapped)
    else:
        check_predictions(swapped, "T")


@pytest.mark.parametrize(("n_other", "looks_swapped"), [(1, True), (2, False)])
def test_how_much_agreement_looks_swapped(n_other, looks_swapped, graded_table):
    table = graded_table(50)
    likely = table["grade"].to_numpy(dtype=int).copy()
    likely[:n_other] = (likely[:n_other] + 1) % 5
    swapped = with_values(table, np.eye(5)[likely]).assign(predicted=(likely + 1) % 5)
    if looks_swapped:
        assert "reference and prediction look swapped" in refused(swapped)
    else:
        check_predictions(swapped, "T")
