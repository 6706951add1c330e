import numpy as np
import pandas as pd
import pytest

from koa_lightning.data import manifest
from koa_lightning.errors import InputError
from koa_lightning.metrics.graded import PROBABILITIES, of_table, patient_numbers


def test_knees_of_a_patient_share_a_number_and_one_without_is_alone():
    rows = pd.DataFrame({"patient": ["b", "a", "", None, "b", "a"]})
    number, n = patient_numbers(rows)
    assert n == 4
    assert number.tolist() == [1, 0, 2, 3, 1, 0]
    assert patient_numbers(rows[["patient"]].fillna(""))[1] == manifest.n_patients(rows.fillna(""))
    assert patient_numbers(pd.DataFrame(index=range(3)))[1] == 3


def test_numbers_do_not_depend_on_the_order_of_rows(graded_table):
    rows = graded_table(10)
    shuffled = rows.sample(frac=1, random_state=0)
    expected = pd.Series(patient_numbers(rows)[0], index=rows.index)
    assert patient_numbers(shuffled)[0].tolist() == expected[shuffled.index].tolist()


def test_a_patient_is_one_whether_its_name_is_a_number_or_text():
    assert patient_numbers(pd.DataFrame({"patient": [7, "7", 8]}))[0].tolist() == [0, 0, 1]


def test_only_knees_of_a_known_grade(graded_table):
    rows = graded_table(10)
    rows.loc[[0, 5], "grade"] = pd.NA
    graded = of_table(rows)
    assert len(graded.grade) == 18 and graded.n_patients == 10
    np.testing.assert_array_equal(graded.probabilities, rows.drop([0, 5])[PROBABILITIES].to_numpy())
    with pytest.raises(InputError, match="no labelled knee"):
        of_table(rows.assign(grade=pd.array([pd.NA] * 20, dtype="Int64")))


@pytest.mark.parametrize("column", [{"p0": 3.0}, {"p2": np.nan}, {"grade": 5}, {"grade": 1.5}])
def test_what_are_no_probabilities_or_grades_is_refused(graded_table, column):
    with pytest.raises(InputError, match="grades outside" if "grade" in column else "not logits"):
        of_table(graded_table(5).assign(**column))


def test_grades_by_each_rule():
    rows = pd.DataFrame([[0.4, 0.2, 0.4, 0, 0], [0.5, 0.0, 0, 0, 0.5]], columns=PROBABILITIES).assign(grade=[0, 1])
    graded = of_table(rows)
    assert graded.argmax.tolist() == [0, 0]
    assert graded.expected.tolist() == pytest.approx([1, 2])
    assert graded.rounded.tolist() == [1, 2]
    assert graded.reaches(2).tolist() == pytest.approx([0.4, 0.5])
