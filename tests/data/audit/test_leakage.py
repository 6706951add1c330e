import numpy as np
import pandas as pd
import pytest

from koa_lightning.data.audit import leakage
from koa_lightning.data.cache import UNKNOWN_PIXELS
from koa_lightning.errors import InputError

NEAR = ["row_a", "row_b", "similarity", "scale", "dx", "dy"]
NONE = pd.DataFrame(columns=["row_a", "row_b", "kind", "similarity"])


def manifest(*knees):
    """Rows of (patient, side, split, grade)."""
    rows = pd.DataFrame(knees, columns=["patient", "side", "split", "grade"])
    return rows.assign(path=[f"/d/{i}.png" for i in range(len(rows))], hash=[f"{i:032x}" for i in range(len(rows))])


def pixels(*names):
    return np.array([name.rjust(32, "a") if name != "?" else UNKNOWN_PIXELS for name in names], dtype="S32")


@pytest.fixture
def record(tmp_path):
    return tmp_path / "audit" / "known.parquet"


CLEAN = manifest(("a", "L", "train", 0), ("a", "R", "train", 1), ("b", "L", "val", 0), ("c", "R", "test", 2))


def test_clean_splits_have_no_finding():
    assert leakage.patients(CLEAN) == []
    assert leakage.same_pixels(CLEAN, pixels("1", "2", "3", "4")) == []
    assert leakage.shared_knees(CLEAN, pixels("1", "2", "3", "4"), NONE, "data=x") == ""


@pytest.mark.parametrize(
    ("knees", "kind"),
    [
        ([("a", "L", "train", 0), ("a", "R", "val", 1)], "knees_in_two_parts"),
        ([("a", "L", "train", 0), ("a", "L", "val", 0)], "patient_in_two_parts"),
        ([("a", "L", "train", 0), ("a", "R", "train", 0), ("a", "L", "test", 0)], "patient_in_two_parts"),
        ([("a", "", "train", 0), ("a", "R", "auto_test", 0)], "patient_in_two_parts"),
    ],
)
def test_a_patient_in_two_splits_is_leakage(knees, kind):
    (finding,) = leakage.patients(manifest(("z", "L", "train", 0), *knees))
    assert (finding.kind, finding.severity) == (kind, "leakage")
    assert finding.rows == list(range(1, len(knees) + 1))
    assert finding.evidence.startswith(f"patient a: {len(knees)} files in ")
    assert finding.numbers["patient"] == "a"


def test_auto_test_holds_the_patients_of_test_again_and_unknown_patients_are_passed_over():
    rows = manifest(("a", "L", "test", 0), ("a", "", "auto_test", 0), ("", "", "train", 0), ("", "", "val", 0))
    assert leakage.patients(rows) == []
    groups = leakage.same_pixels(rows, pixels("1", "1", "2", "3"))
    assert [finding.severity for finding in leakage.exact(rows, groups)] == ["warning"]
    assert leakage.shared_knees(rows, pixels("1", "1", "2", "3"), NONE, "x") == ""


def test_equal_pixels_within_a_split_warn_and_across_splits_leak():
    rows = manifest(("a", "L", "train", 0), ("b", "L", "train", 0), ("c", "L", "val", 0), ("d", "L", "test", 0))
    rows.loc[[2, 3], "hash"] = "same"
    findings = leakage.exact(rows, leakage.same_pixels(rows, pixels("1", "1", "2", "2")))
    assert [(finding.kind, finding.severity, finding.rows) for finding in findings] == [
        ("same_pixels", "warning", [0, 1]),
        ("same_pixels", "leakage", [2, 3]),
    ]
    assert [finding.numbers["same_bytes"] for finding in findings] == [False, True]
    assert "the same pixels in different files; train" in findings[0].evidence
    assert "the same bytes; val and test" in findings[1].evidence


def test_rows_that_could_not_be_read_are_no_duplicates_of_each_other():
    assert leakage.same_pixels(CLEAN, pixels("?", "?", "1", "?")) == []
    assert leakage.shared_knees(CLEAN, pixels("?", "2", "?", "4"), NONE, "x") == ""


def test_two_grades_are_told_and_an_unknown_grade_is_none():
    rows = manifest(("a", "L", "train", 0), ("b", "L", "train", 3), ("c", "L", "train", 1), ("d", "L", "train", -1))
    findings = leakage.exact(rows, leakage.same_pixels(rows, pixels("1", "1", "2", "2")))
    assert [finding.kind for finding in findings] == ["same_pixels", "two_grades", "same_pixels"]
    assert "grades 0, 3" in findings[1].evidence


def test_near_duplicates_are_told_with_their_shift_the_most_similar_first():
    pairs = pd.DataFrame([(0, 1, 0.8, 1.0, 0.0, 0.0), (0, 2, 0.9, 1.2, 0.1, -0.05)], columns=NEAR)
    first, second = leakage.near(CLEAN, pairs)
    assert (first.severity, first.rows) == ("leakage", [0, 2])
    assert first.evidence == (
        "similarity 0.900; scaled by 1.20, shifted by +10% across and -5% down; train and val; "
        "two patients by name (a, b)"
    )
    assert (second.severity, second.rows) == ("warning", [0, 1])
    assert second.evidence.endswith("train; one patient by name (a)")
    assert first.numbers["scale"] == 1.2
    assert leakage.near(CLEAN.assign(patient=""), pairs)[0].evidence.endswith("train and val")


def test_shared_knees_name_the_first_pairs_and_what_to_do():
    rows = manifest(*[(str(i), "L", "train", 0) for i in range(6)], *[(str(i), "L", "val", 0) for i in range(6, 12)])
    line = leakage.shared_knees(rows, pixels(*"012345012345"), NONE, "data=x")
    assert line.startswith("data=x: 6 pair(s) of files in two splits show the same knee: ")
    assert line.count("the same pixels") == 3
    assert "/d/0.png (train) and /d/6.png (val): the same pixels" in line
    assert "and 3 more" in line
    assert "python -m koa_lightning.audit" in line
    assert "\n" not in line


# --- the record of earlier audits


def remembered(record, rows=CLEAN, pairs=((0, 2, 0.9), (0, 1, 0.8)), groups=(), looked=("near_duplicate",)):
    frame = pd.DataFrame([(*pair, 1.0, 0.0, 0.0) for pair in pairs], columns=NEAR)
    leakage.remember(rows, leakage.as_pairs(groups, frame), {"same_pixels", *looked}, record)


def known(record, rows=CLEAN):
    pairs = leakage.known_pairs(rows["hash"], rows["path"], record)
    return [tuple(pair) for pair in pairs[["row_a", "row_b", "similarity"]].itertuples(index=False)]


def test_what_an_audit_found_is_known_later(record):
    assert known(record) == []
    remembered(record, groups=[[1, 2, 3]])
    assert known(record) == [(0, 1, 0.8), (0, 2, 0.9), (1, 2, 1.0), (1, 3, 1.0)]
    line = leakage.shared_knees(CLEAN, pixels(*"1234"), leakage.known_pairs(CLEAN["hash"], CLEAN["path"], record), "x")
    assert line.startswith("x: 3 pair(s)")
    assert "near duplicates in an earlier audit, similarity 0.90" in line
    assert not list(record.parent.glob("*.part"))


def test_files_are_known_again_by_content_or_by_path_and_in_any_order(record):
    remembered(record)
    assert known(record, CLEAN.assign(path="/moved/" + CLEAN["path"])) == [(0, 1, 0.8), (0, 2, 0.9)]
    assert known(record, CLEAN.assign(hash="encoded again")) == [(0, 1, 0.8), (0, 2, 0.9)]
    assert known(record, CLEAN[::-1].reset_index(drop=True)) == [(1, 3, 0.9), (2, 3, 0.8)]
    assert known(record, CLEAN[1:].reset_index(drop=True)) == []
    assert known(record, CLEAN.assign(path="/moved/" + CLEAN["path"], hash="new")) == []


def test_relative_paths_are_the_same_as_absolute_ones(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    remembered(record, CLEAN.assign(path=[f"x/../{i}.png" for i in range(4)]))
    other = CLEAN.assign(path=[str(tmp_path / f"{i}.png") for i in range(4)], hash="new")
    assert len(known(record, other)) == 2


def test_a_later_audit_adds_its_pairs_and_takes_off_what_was_mended(record):
    remembered(record)
    others = CLEAN.assign(path="/o" + CLEAN["path"], hash="o" + CLEAN["hash"])
    remembered(record, others, pairs=[(1, 3, 0.7)])
    assert known(record, others) == [(1, 3, 0.7)]
    assert len(known(record)) == 2
    remembered(record, CLEAN[:2], pairs=[])  # sees both files of the second pair, and one of the first
    assert known(record) == [(0, 2, 0.9)]


def test_an_audit_without_near_duplicates_keeps_those_of_others(record):
    remembered(record)
    leakage.remember(CLEAN, leakage.as_pairs([], None), {"same_pixels"}, record)
    assert len(known(record)) == 2


def test_a_damaged_record_is_named(record):
    record.parent.mkdir()
    record.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"damaged .*; delete it and run the audit again"):
        known(record)


def test_the_record_is_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("KOA_CACHE", str(tmp_path))
    assert leakage.record_file() == tmp_path / "audit" / "known_duplicates.parquet"
