import hashlib
import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.data import manifest as mf
from koa_lightning.errors import InputError


def knees(*rows):
    """Rows of (patient, split, grade); the hash is made up."""
    frame = pd.DataFrame(rows, columns=["patient", "split", "grade"])
    frame["path"] = [f"/here/{i:03d}.png" for i in range(len(frame))]
    frame["hash"] = [f"{i:032x}" for i in range(len(frame))]
    return mf.make(frame, "here")


def test_rows_are_sorted_and_every_column_is_there():
    rows = pd.DataFrame({"path": ["b", "a"], "grade": [4, 0], "age": [60, 70]}, index=[7, 3])
    frame = mf.make(rows, "here")
    assert list(frame.columns) == [*mf.COLUMNS, "age"]
    assert frame["path"].tolist() == ["a", "b"]
    assert frame["grade"].tolist() == [0, 4]
    assert frame["grade"].dtype == "int8"
    assert frame["age"].tolist() == [70, 60]
    assert (frame[["patient", "side", "split", "hash"]] == "").all(axis=None)
    assert list(rows.columns) == ["path", "grade", "age"]  # the caller's rows are left as they were


def test_an_unknown_grade_is_minus_one():
    assert mf.make(pd.DataFrame({"path": ["a"]}), "here")["grade"].tolist() == [-1]


def test_missing_text_is_empty_text():
    frame = mf.make(pd.DataFrame({"path": ["a", "b"], "patient": ["P1", None], "side": [None, "L"]}), "here")
    assert frame["patient"].tolist() == ["P1", ""]
    assert frame["side"].tolist() == ["", "L"]


def test_no_row_and_a_path_twice_stop():
    with pytest.raises(InputError, match="here: no knee was found"):
        mf.make(pd.DataFrame({"path": []}), "here")
    with pytest.raises(InputError, match=r"here: b.png is listed 3 times"):
        mf.make(pd.DataFrame({"path": ["b.png", "a.png", "b.png", "b.png"]}), "here")


def test_a_patient_in_two_splits_is_named():
    frame = knees(("P2", "train", 0), ("P2", "val", 0), ("P1", "val", 0), ("P1", "test", 1), ("P3", "val", 1))
    with pytest.raises(InputError, match=r"here: 2 patient\(s\) in two splits: P1, P2;"):
        mf.check_patients(frame, "here")


def test_many_patients_in_two_splits_are_counted():
    frame = knees(*((f"P{i}", split, 0) for i in range(8) for split in ("train", "test")))
    with pytest.raises(InputError, match=r"8 patient\(s\) in two splits: P0, P1, P2, P3, P4 and 3 more;"):
        mf.check_patients(frame, "here")


def test_unknown_patients_and_rows_without_a_split_are_passed_over():
    mf.check_patients(knees(("", "train", 0), ("", "val", 0), ("P1", "train", 0), ("P1", "", 0)), "here")


def test_auto_test_holds_test_patients_but_none_of_the_other_splits():
    splits = {*mf.SPLITS, mf.AUTO_TEST}
    again = knees(("P1", "test", 0), ("P1", "auto_test", 0), ("P2", "train", 0))
    mf.check_patients(again, "here", splits)
    leaking = knees(("P1", "train", 0), ("P1", "auto_test", 0))
    mf.check_patients(leaking, "here")  # nobody asked for auto_test
    with pytest.raises(InputError, match="in two splits: P1;"):
        mf.check_patients(leaking, "here", splits)


def test_a_split_must_hold_every_grade():
    frame = knees(*(("P", "train", grade) for grade in (0, 2, 3)), ("Q", "val", 0))
    with pytest.raises(InputError, match=r"here: the train split has no knee of grade 1, 4; add some"):
        mf.check_grades(frame, "train", "here")
    with pytest.raises(InputError, match=r"here: no knee in the test split"):
        mf.check_grades(frame, "test", "here")
    mf.check_grades(knees(*(("P", "train", grade) for grade in mf.GRADES)), "train", "here")


def test_the_hash_is_of_the_content_alone(tmp_path):
    for name, content in (("a", b"knee"), ("b", b"knee"), ("c", b"Knee"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    a, b, c, empty = (mf.hash_file(str(tmp_path / name)) for name in ("a", "b", "c", "empty"))
    assert a == b == hashlib.blake2b(b"knee", digest_size=16).hexdigest()
    assert len({a, c, empty}) == 3


def test_a_phantom_is_hashed_by_its_name():
    first, second = mf.hash_file("phantom://1/P0L-0"), mf.hash_file("phantom://2/P0L-0")
    assert len(first) == 32
    assert first != second


def test_a_missing_file_stops_and_an_unreadable_one_has_no_hash(tmp_path):
    with pytest.raises(InputError, match=r"gone.png: the file is missing"):
        mf.hash_file(str(tmp_path / "gone.png"))
    (tmp_path / "folder.png").mkdir()
    assert mf.hash_file(str(tmp_path / "folder.png")) == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_has_no_hash(tmp_path):
    (tmp_path / "a.png").write_bytes(b"knee")
    (tmp_path / "a.png").chmod(0)
    assert mf.hash_file(str(tmp_path / "a.png")) == ""


def test_only_the_files_of_these_splits_are_hashed(tmp_path, monkeypatch):
    files = [tmp_path / f"{i:04d}" for i in range(600)]  # more than two tasks
    for file in files:
        file.write_bytes(file.name.encode())
    rows = pd.DataFrame({"path": [str(f) for f in files], "split": ["train", "test", "val"] * 200})
    asked = []
    hash_file = mf.hash_file
    monkeypatch.setattr(mf, "hash_file", lambda path: asked.append(path) or hash_file(path))
    manifest = mf.make(rows, "here")
    hashed = mf.add_hashes(manifest, ("train", "val"))
    for path, split, content in zip(hashed["path"], hashed["split"], hashed["hash"], strict=True):
        assert content == ("" if split == "test" else hash_file(path))
    assert len(asked) == 400
    assert (manifest["hash"] == "").all()
    assert mf.add_hashes(hashed, ("train", "val")).equals(hashed)
    assert len(asked) == 400  # what is known is not hashed again


def test_counts_leave_out_unknown_grades():
    frame = knees(("P", "val", 2), ("P", "val", 2), ("P", "val", -1), ("P", "val", 4), ("P", "train", 0))
    assert mf.counts(frame, "val") == [0, 0, 2, 0, 1]
    assert mf.counts(frame, "test") == [0, 0, 0, 0, 0]


ROWS = st.lists(
    st.tuples(st.sampled_from(["P1", "P2", ""]), st.sampled_from(["train", "val", "test"]), st.integers(-1, 4)),
    min_size=2,
    max_size=12,
)


@given(ROWS, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_the_fingerprint_does_not_depend_on_place_or_order(rows, random):
    frame = knees(*rows)
    order = list(range(len(frame)))
    random.shuffle(order)
    moved = frame.iloc[order].assign(path=[f"/there/{i}.png" for i in range(len(frame))], age=1)
    assert mf.fingerprint(moved, ("train", "val")) == mf.fingerprint(frame, ("train", "val"))
    others = frame[frame["split"] != "test"]
    assert mf.fingerprint(others, ("train", "val")) == mf.fingerprint(frame, ("train", "val"))


@pytest.mark.parametrize(
    ("column", "value"), [("hash", "f" * 32), ("grade", 3), ("patient", "P9"), ("side", "R"), ("split", "val")]
)
def test_the_fingerprint_changes_with_what_a_knee_is(column, value):
    frame = knees(("P1", "train", 0), ("P2", "train", 1), ("P3", "val", 2))
    before = mf.fingerprint(frame, ("train", "val"))
    assert len(before) == 16
    frame.loc[1, column] = value
    assert mf.fingerprint(frame, ("train", "val")) != before
