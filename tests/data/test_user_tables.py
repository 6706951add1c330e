"""Tables as spreadsheets of any country write them, read by all commands through one reader."""

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table
from koa_lightning.data.oof import joined, read_oof
from koa_lightning.data.prepare.grades import read_grades
from koa_lightning.data.prepare.names import Key
from koa_lightning.data.sources.table import table as rows_of_table
from koa_lightning.data.user_tables import on_disk, read_table
from koa_lightning.errors import InputError
from koa_lightning.metrics import comparison
from koa_lightning.metrics.tables import read_predictions

PLAIN = "path,grade,p0,p1,p2,p3,p4\nk0.png,0,0.6,0.1,0.1,0.1,0.1\nk1.png,1,0.1,0.6,0.1,0.1,0.1\n"
ENDED = "\n".join([PLAIN.split("\n", 1)[0], *(f"{line}," for line in PLAIN.splitlines()[1:])]) + "\n"
FORMS = {
    "rows end in a comma": ENDED,
    "one row ends in a comma": PLAIN.replace("0.1\nk1", "0.1,\nk1"),
    "all lines end in commas": "".join(f"{line},,\n" for line in PLAIN.splitlines()),
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace(".1", ",1").replace(".6", ",6"),
    "semicolons at the end": ENDED.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "sep=": "sep=;\n" + PLAIN.replace(",", ";"),
    "empty rows at the end": PLAIN.replace(",", ";") + ";;;;;;\n;;;;;;\n\n",
    "old macintosh": PLAIN.replace(",", ";").replace("\n", "\r"),
    "windows": PLAIN.replace("\n", "\r\n"),
}


@pytest.fixture
def file(tmp_path):
    def write(text, encoding="utf-8"):
        for name in ("k0.png", "k1.png"):
            (tmp_path / name).write_bytes(b"")
        (tmp_path / "t.csv").write_bytes(text.encode(encoding))
        return tmp_path / "t.csv"

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_as_the_plain_one(file, form, encoding):
    wanted = read_table(file(PLAIN))
    assert wanted["p0"].tolist() == [0.6, 0.1]
    pd.testing.assert_frame_equal(read_table(file(FORMS[form], encoding)), wanted)


@pytest.mark.parametrize("form", FORMS)
def test_every_command_reads_every_form(file, form):
    where = file(FORMS[form])
    assert rows_of_table(str(where))["grade"].tolist() == [0, 1]
    assert read_predictions(where)["p1"].tolist() == [0.1, 0.6]
    assert read_oof(where)["path"].tolist() == ["k0.png", "k1.png"]


@pytest.mark.parametrize(
    ("before", "after"), [(",", ";"), (",", "\t"), ("\n", ",\n"), ("grade,\n", "grade\n"), ("4", "4.0")]
)
def test_grades_of_prepare_are_read_by_the_same_reader(file, before, after):
    key = Key(b"0123456789abcdef", "test")
    text = "patient,side,grade\n007,L,4\n12,R,0\n"
    plain = read_grades(str(file(text)), key)
    assert read_grades(str(file(text.replace(before, after))), key) == plain
    assert plain[key.patient("007"), "L"] == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,grade\nknee, left.png,0\n", "line 2: 3 cells, but the first line names 2 columns .'0' has none"),
        ("path,grade\nk0.png,0\nk1.png,1,note\n", "line 3: 3 cells, but the first line names 2 columns"),
        ("path,grade,\nk0.png,0,note\n", "line 2: 3 cells, but the first line names 2 columns .'note' has none"),
        ("path,grade,grade\nk0.png,0,4\n", "two columns are named 'grade'"),
        ("\n\n", "no first line with column names"),
    ],
)
def test_cells_without_a_column_and_columns_of_one_name_are_refused(file, text, words):
    with pytest.raises(InputError, match=words) as error:
        read_table(file(text))
    assert "\n" not in str(error.value)


def test_a_table_that_is_not_utf_8_names_the_line(file):
    with pytest.raises(InputError, match="line 2 is not UTF-8; save the table as CSV UTF-8"):
        read_table(file("path,grade\nknöchel.png,0\n", "latin-1"))


def test_an_index_that_pandas_wrote_has_no_name_and_is_omitted(file):
    assert read_table(file(",path,grade\n0,k0.png,0\n1,k1.png,1\n")).columns.tolist() == ["path", "grade"]


def test_paths_of_windows_and_of_macos_lead_to_their_files(tmp_path):
    folder = tmp_path / unicodedata.normalize("NFD", "Müller") / unicodedata.normalize("NFC", "über")
    folder.mkdir(parents=True)
    (folder / "k0.png").write_bytes(b"")
    (tmp_path / r"odd\name.png").write_bytes(b"")
    written = unicodedata.normalize("NFC", "Müller\\über\\k0.png")
    (tmp_path / "t.csv").write_text(f"path,grade,patient\n{written},1,Müller\nodd\\name.png,2,x\n", "utf-8")
    rows = rows_of_table(str(tmp_path / "t.csv"))
    assert sorted(rows["path"]) == sorted([str(folder / "k0.png"), str(tmp_path / r"odd\name.png")])
    assert on_disk(tmp_path, r"gone\k0.png") == str(tmp_path / "gone/k0.png")


def test_a_patient_spelled_in_two_ways_is_one(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(b"")
    two = [unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD")]
    (tmp_path / "t.csv").write_text(f"path,grade,patient\na.png,1,{two[0]}\nb.png,2,{two[1]}\n", "utf-8")
    assert rows_of_table(str(tmp_path / "t.csv"))["patient"].tolist() == [two[0]] * 2


def test_parts_of_a_table_go_by_their_usual_names(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"")
    (tmp_path / "t.csv").write_text("path,grade,split\na.png,1,Training\nb.png,2,valid\nc.png,3,Testing\n")
    assert rows_of_table(str(tmp_path / "t.csv"))["split"].tolist() == ["train", "val", "test"]


def test_leading_zeros_stay_in_every_form(file):
    rows = read_table(file("path;patient;grade\nk0.png;007;1\n"))
    assert rows["patient"].tolist() == ["007"]
    assert Path(rows["path"][0]).name == "k0.png"


def spelled(form, separator="/"):
    names = ["Müller/k0.png", "Jörg/k1.png"]
    return [unicodedata.normalize(form, name).replace("/", separator) for name in names]


def test_a_split_table_of_another_system_fits(tmp_path):
    rows = pd.DataFrame({"path": [str(tmp_path / path) for path in spelled("NFD")], "grade": [0, 1]})
    rows["patient"], rows["split"] = ["Müller", "Jörg"], ["train", "val"]
    manifest = mf.make(rows, "data")
    split_table.write(manifest, tmp_path, tmp_path / "split.csv")
    here = mf.make(rows.assign(path=[str(tmp_path / path) for path in spelled("NFC")], split=""), "data")
    table = split_table.read(str(tmp_path / "split.csv"))
    made = split_table.assign(here, table, tmp_path, splits={"train", "val"}, n_folds=None, fold=0, seed=0)
    assert sorted(made["split"]) == ["train", "val"]


@pytest.mark.parametrize("other", [spelled("NFD"), spelled("NFC", "\\"), spelled("NFD", "\\")])
def test_predictions_of_another_system_are_of_the_same_knees(file, tmp_path, other):
    def table(paths):
        return PLAIN.replace("k0.png", paths[0]).replace("k1.png", paths[1])

    ours, theirs = (read_predictions(file(table(paths))) for paths in (spelled("NFC"), other))
    first, second = comparison.match(ours, theirs, ("a", "b"))
    assert first["grade"].tolist() == second["grade"].tolist() == [0, 1]
    rows, _ = joined(ours, theirs, "oof")
    assert rows.tolist() == [0, 1]
