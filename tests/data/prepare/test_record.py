import json
from dataclasses import asdict, replace

import pytest

from koa_lightning.data.prepare.record import FILE, Record, Row
from koa_lightning.errors import InputError

ROW = Row("images/p-L-1.png", "p", "PatientID", "L", "Laterality", 0.1, 0.1, "PixelSpacing", 9, 9, "s", 1, 1, "m", "k",
          burnt_in=False)  # fmt: skip


@pytest.fixture
def output(tmp_path):
    (tmp_path / "images").mkdir()
    return tmp_path


def add(record, row, picture=True):
    record.add(row)
    if picture:
        (record.output / row.path).write_bytes(b"png")


def test_rows_outlive_a_kill(output):
    add(Record(output, "k"), ROW)  # never closed
    with (output / FILE).open("a") as stream:
        stream.write('{"path": "images/p-')
    again = Record(output, "k")
    assert list(again.rows.values()) == [ROW]
    assert again.has("s", "m", False)
    add(again, replace(ROW, source="t", path="images/p-L-2.png"))
    assert len(Record(output, "k").rows) == 2


def test_what_counts_as_there(output):
    record = Record(output, "k")
    assert not record.has("s", "m", False)
    add(record, replace(ROW, knees=2))
    assert not record.has("s", "m", False)  # the second knee is missing
    add(record, replace(ROW, knee=2, knees=2, path="images/p-R-1.png", side="R"))
    assert record.has("s", "m", False)
    assert not record.has("s", "other settings", False)
    (output / "images/p-R-1.png").unlink()
    assert not record.has("s", "m", False)
    record.drop_missing()
    assert [row.knee for row in record.rows.values()] == [1]


def test_burnt_in_text_is_there_only_where_it_may(output):
    record = Record(output, "k")
    add(record, replace(ROW, burnt_in=True))
    assert record.has("s", "m", True)
    assert not record.has("s", "m", False)
    older = asdict(ROW)
    del older["burnt_in"]
    (output / FILE).write_text(json.dumps(older) + "\n")
    assert not Record(output, "k").has("s", "m", False)


def test_pictures_of_a_source_and_no_others_are_removed(output):
    record = Record(output, "k")
    add(record, ROW, picture=False)
    add(record, replace(ROW, path="images/p-R-1.png", side="R"))  # and a picture under the path before, by a kill
    add(record, replace(ROW, source="t", path="images/p-L-2.png"))
    for name in ("p-L-1.png", "p-L-3.png"):
        (output / "images" / name).write_bytes(b"png")
    assert Record(output, "k").remove_pictures("s") == 2
    assert sorted(path.name for path in output.glob("images/*")) == ["p-L-2.png", "p-L-3.png"]
    again = Record(output, "k")
    assert not again.has("s", "m", True)
    again.drop_missing()
    assert [row.source for row in again.rows.values()] == ["t"]


def test_paths_are_kept_and_never_given_twice(output):
    record = Record(output, "k")
    assert record.path_for("s", 1, "p", "L") == ROW.path
    add(record, ROW)
    assert record.path_for("s", 1, "p", "L") == ROW.path
    assert record.path_for("t", 1, "p", "L") == "images/p-L-2.png"
    assert record.path_for("t", 1, "p", "") == "images/p-U-1.png"


def test_closing_sorts_and_keeps_the_last_row_of_a_picture(output):
    record = Record(output, "k")
    add(record, replace(ROW, source="t", path="images/p-L-2.png"))
    add(record, ROW)
    add(record, replace(ROW, made="n"))
    record.close()
    assert [(row.path, row.made) for row in Record(output, "k").rows.values()] == [
        ("images/p-L-1.png", "n"),
        ("images/p-L-2.png", "m"),
    ]


def test_another_key(output):
    add(Record(output, "k"), ROW)
    with pytest.raises(InputError, match="was made with another key"):
        Record(output, "l")


def test_names_of_another_version(output):
    add(Record(output, "k"), ROW)
    with pytest.raises(InputError, match="by a version with other patient names"):
        Record(output, "k-2")
    assert Record(output, "k").rows


HOSTILE = [
    {"path": "../mine.png"}, {"path": "/etc/passwd"}, {"path": "images/../../mine.png"}, {"path": "images/x"},
    {"path": None}, {"knees": 10**12}, {"knees": "2"}, {"side": "B"}, {"height": -1}, {"spacing_mm": float("nan")},
    {"patient": 7}, {"burnt_in": "no"}, {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_record_of_a_stranger_deletes_nothing(change, tmp_path):
    """It says which pictures a run before made; one whose file is now omitted is removed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "mine.png").write_bytes(b"mine")
    row = {**asdict(ROW), **change}
    (tmp_path / "out/record.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=r"record\.jsonl: not a record of this version \(line 1: "):
        Record(tmp_path / "out", row["key"])
    assert (tmp_path / "mine.png").exists()
