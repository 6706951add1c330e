import pytest

from koa_lightning.data.prepare.grades import read_grades
from koa_lightning.data.prepare.names import Key
from koa_lightning.errors import InputError

KEY = Key(b"k" * 64, "test")


def test_ids_keep_their_zeros(tmp_path):
    file = tmp_path / "grades.csv"
    file.write_text("side,patient,grade,age\nL,0012,0,61\nright, 12 ,4.0,70\n")
    assert read_grades(str(file), KEY) == {(KEY.patient("0012"), "L"): 0, (KEY.patient("12"), "R"): 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("patient,side\n1,L\n", "column 'grade' is missing"),
        ("patient,side,grade\n1,M,0\n", "line 2: side 'M' is not L or R"),
        ("patient,side,grade\n1,,0\n", "line 2: side '' is not L or R"),
        ("patient,side,grade\n1,L,0\n2,L,5\n", "line 3: grade '5' is not one of"),
        ("patient,side,grade\n,L,0\n", "line 2: patient is empty"),
        ("patient,side,grade\n1,L,0\n1,LEFT,2\n", "line 3: this knee has a different grade in an earlier line"),
        ("", "not a readable CSV or Parquet table"),
    ],
)
def test_wrong_tables(tmp_path, text, words):
    file = tmp_path / "grades.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_grades(str(file), KEY)


def test_missing_table():
    with pytest.raises(InputError, match="grades=nowhere: there is no such file"):
        read_grades("nowhere", KEY)
