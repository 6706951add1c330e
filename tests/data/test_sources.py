import errno
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.config.compose import config_dir
from koa_lightning.data import patterns
from koa_lightning.data.manifest import COLUMNS
from koa_lightning.data.sources import table as table_source
from koa_lightning.data.sources.chen2018 import chen2018 as rows_of_chen2018
from koa_lightning.data.sources.folder import folder as rows_of_folder
from koa_lightning.data.sources.phantom import phantom as rows_of_phantom
from koa_lightning.data.sources.table import table as rows_of_table
from koa_lightning.errors import InputError


def touch(root, *names):
    """Make files that are no images: a source opens none."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


def default_pattern():
    text = (config_dir() / "data" / "folder.yaml").read_text()
    return re.search(r"^pattern: '(.*)'$", text, re.MULTILINE)[1]


def refuses(match, source, *arguments, **options):
    with pytest.raises(InputError, match=match) as caught:
        source(*arguments, **options)
    assert "\n" not in str(caught.value)


def facts(rows):
    return [tuple(row) for row in rows[["patient", "side", "split", "grade"]].itertuples(index=False)]


# --- chen2018


def test_chen2018_reads_patient_side_grade_and_split_from_names(tmp_path):
    touch(tmp_path, "train/0/9001104R.jpg", "train/4/9001104L.png", "val/2/9002817R.png", "test/1/9003126L.PNG")
    touch(tmp_path, "auto_test/1/9003126_1.png", "auto_test/3/9003126_2.png")
    rows = rows_of_chen2018(str(tmp_path))
    assert facts(rows) == [
        ("9003126", "", "auto_test", 1),
        ("9003126", "", "auto_test", 3),
        ("9003126", "L", "test", 1),
        ("9001104", "R", "train", 0),
        ("9001104", "L", "train", 4),
        ("9002817", "R", "val", 2),
    ]
    assert rows["path"].tolist()[3] == str(tmp_path / "train" / "0" / "9001104R.jpg")
    assert (rows["hash"] == "").all()


def test_chen2018_passes_over_what_is_no_image(tmp_path):
    touch(tmp_path, "train/0/9001104R.png", "train/0/.9001104L.png", "train/0/Thumbs.db", "train/0/notes.txt")
    touch(tmp_path, "train/.DS_Store", "train/.cache/x.png", "train/0/9001104L.png/inside.txt", "README.md")
    assert facts(rows_of_chen2018(str(tmp_path))) == [("9001104", "R", "train", 0)]


@pytest.mark.parametrize("name", ["left_knee.png", "9001104.png", "19001104R.png", "9001104R2.png", "900110R.png"])
def test_chen2018_refuses_other_names(tmp_path, name):
    touch(tmp_path, f"train/0/{name}")
    wanted = rf"{name}: the pattern .* finds no patient in this name; Chen 2018 names them"
    refuses(wanted, rows_of_chen2018, str(tmp_path))


@pytest.mark.parametrize("source", [rows_of_chen2018, lambda root: rows_of_folder(root, default_pattern())])
def test_a_root_that_is_missing_or_no_folder_stops(tmp_path, source):
    refuses("data.root must be given; type data.root=FOLDER", source, None)
    refuses(r"data.root=.*gone: there is no such folder", source, str(tmp_path / "gone"))
    touch(tmp_path, "file")
    refuses(r"data.root=.*file: is not a folder", source, str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_root_that_cannot_be_read_stops(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    refuses("closed: the folder cannot be read", rows_of_chen2018, str(tmp_path / "closed"))


def test_how_a_data_set_names_its_files_is_in_its_config():
    chen, own = patterns.pattern_of({"name": "chen2018"}), patterns.pattern_of({"pattern": default_pattern()})
    assert patterns.named("any/9001104r.png", chen) == ("9001104", "R")
    assert patterns.named("sub-001_left.png", chen) == ("", "")
    assert patterns.named("sub-001_left.png", own) == ("sub-001", "L")
    assert patterns.named("9001104R.png", patterns.pattern_of({"name": "table"})) == ("", "")
    refuses("needs a group", patterns.pattern_of, {"pattern": "x"})


@pytest.mark.parametrize("closed", ["train", "train/0", "train/0/sub"])
def test_a_folder_within_that_cannot_be_read_stops(tmp_path, monkeypatch, closed):
    touch(tmp_path, "train/0/9001104R.png", "train/0/sub/notes.txt")

    def only_others(real):
        def listed(folder):
            if str(folder) == str(tmp_path / closed):
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return real(folder)

        return listed

    for name in ("scandir", "listdir"):  # root may read everything
        monkeypatch.setattr(os, name, only_others(getattr(os, name)))
    refuses(f"{closed}: the folder cannot be read; check its permissions", rows_of_chen2018, str(tmp_path))


def test_chen2018_says_what_it_looked_for(tmp_path):
    looked_for = r"looked for \{train,val,test\}/\{0,1,2,3,4\}/NAME.png or .jpg"
    refuses(rf"{looked_for}; found nothing", rows_of_chen2018, str(tmp_path))
    touch(tmp_path, *(f"{grade}/9001104R.png" for grade in range(5)), "a.txt", "b.txt")
    refuses(rf"{looked_for}; found 0, 1, 2, 3, 4 and 2 more \(data=folder", rows_of_chen2018, str(tmp_path))


def test_chen2018_without_any_image_says_where_it_looked(tmp_path):
    touch(tmp_path, "train/0/notes.txt", "val/9001104R.png")
    refuses(r"no image in train, val; looked for", rows_of_chen2018, str(tmp_path))


@pytest.mark.parametrize("name", ["5", "01", "12", "KL2", "-1", "0Normal", "mild"])
def test_a_grade_folder_that_is_not_0_to_4_stops(tmp_path, name):
    touch(tmp_path, "train/0/9001104R.png", f"train/{name}/9001104L.png", "0/9001104R.png", f"{name}/9001104L.png")
    wanted = rf"folder '{name}' is not a grade; name the folders 0, 1, 2, 3, 4"
    refuses(wanted, rows_of_chen2018, str(tmp_path))
    (tmp_path / "train").rename(tmp_path / ".train")
    refuses(wanted, rows_of_folder, str(tmp_path), default_pattern())


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"), ("Train", "Val", "Test"), ("training", "validation", "testing"),
        ("TRAIN", "VALID", "TEST"), ("Training Set", "validation_set", "test-set"), ("train", "dev", "test"),
    ],
)  # fmt: skip
def test_parts_go_by_their_usual_names(tmp_path, capsys, train, val, test):
    touch(tmp_path, f"{train}/0/9001104R.png", f"{val}/1/9001105R.png", f"{test}/2/9001106R.png")
    rows = rows_of_chen2018(str(tmp_path))
    assert sorted(rows["split"]) == ["test", "train", "val"]
    assert all(Path(path).is_file() for path in rows["path"])
    refuses("it has splits, so type data=chen2018", rows_of_folder, str(tmp_path), default_pattern())
    assert capsys.readouterr().err == ""


def test_two_folders_of_one_split_are_refused(tmp_path):
    touch(tmp_path, "train/0/9001104R.png", "val/1/9001105R.png", "Validation/1/9001106R.png")
    refuses("the folders 'Validation' and 'val' would both be the val split", rows_of_chen2018, str(tmp_path))


def test_a_folder_with_grades_that_is_not_read_is_named(tmp_path, capsys):
    touch(tmp_path, "train/0/9001104R.png", "holdout/0/9001105R.png", "holdout/4/9001106R.png")
    touch(tmp_path, "more/fold_1/3/9001107R.png", "3/9001108R.png", "notes/0.txt", "empty/0/readme.txt")
    assert rows_of_chen2018(str(tmp_path))["split"].tolist() == ["train"]
    said = capsys.readouterr().err
    assert f"WARNING: data.root={tmp_path}: folders with grades are not read" in said
    assert "'.' (1 images), 'holdout' (2 images), 'more/fold_1' (1 images);" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", "#recycle", ".Trash", "lost+found", "System Volume Information"]
)
def test_folders_of_the_system_are_no_grades_and_their_files_no_knees(tmp_path, capsys, name):
    touch(tmp_path, "train/0/9001104R.png", f"{name}/0/9001104R.png", f"train/{name}/9001104R.png")
    touch(tmp_path, f"train/0/{name}/9001104R.png/THUMB.png", "train/0/._9001104R.png")
    assert facts(rows_of_chen2018(str(tmp_path))) == [("9001104", "R", "train", 0)]
    assert "skipped" in capsys.readouterr().err
    (tmp_path / "train").rename(tmp_path / "knees")
    assert facts(rows_of_folder(str(tmp_path / "knees"), default_pattern())) == [("9001104", "R", "", 0)]
    said = capsys.readouterr().err
    assert said.startswith(f"WARNING: data.root={tmp_path}/knees: skipped ")
    assert said.count("\n") == 1


# --- folder


@pytest.mark.parametrize("name", ["NormalG{}", "KL{}", "grade_{}", "G{}"])
@pytest.mark.parametrize("each", [" ({}).png", "_{:04d}.png"])
def test_words_of_the_grade_are_no_patients(tmp_path, name, each):
    touch(tmp_path, *(f"{grade}/{name.format(grade)}{each.format(n)}" for grade in range(5) for n in range(12)))
    example = re.escape(f"'{name.format(0)}' from '{name.format(0)}{each.format(0)}'")
    words = rf"data.root=.*: 60 knees, 5 patients by data.pattern, e.g. {example}.*; set data.pattern"
    refuses(words, rows_of_folder, str(tmp_path), default_pattern())


def test_words_of_the_grade_among_patients_are_found_too(tmp_path):
    touch(tmp_path, *(f"{n % 5}/{9000000 + n}L.png" for n in range(60)), *(f"2/KL2_{n}.png" for n in range(9)))
    refuses("69 knees, 61 patients by data.pattern, e.g. 'KL2'", rows_of_folder, str(tmp_path), default_pattern())


@pytest.mark.parametrize("name", ["1.2.840.113619.2.5.{}.png", "2.25.{}0000.8.dcm", "1.3.6.1.4.1.{}.dcm"])
def test_the_beginning_of_a_uid_is_no_patient(tmp_path, name):
    touch(tmp_path, *(f"{n % 5}/{name.format(n + 1)}" for n in range(10)))
    refuses("no patient in this name", rows_of_folder, str(tmp_path), default_pattern())
    if name.count(".") > 4:
        words = "10 knees, 1 patients by data.pattern.*beginning of a DICOM UID"
        refuses(words, rows_of_folder, str(tmp_path), r"^(?P<patient>\d+)")


def test_far_too_few_patients_are_refused(tmp_path):
    touch(tmp_path, *(f"{n % 5}/study{n % 3}_{n}.png" for n in range(45)))
    refuses("45 knees, 3 patients by data.pattern, e.g. 'study0'", rows_of_folder, str(tmp_path), default_pattern())


def test_series_of_few_patients_are_patients(tmp_path):
    touch(tmp_path, *(f"{(n + p) // 4}/P{p}{'LR'[n % 2]}_V{n}.png" for n in range(8) for p in range(6)))
    assert rows_of_folder(str(tmp_path), default_pattern())["patient"].nunique() == 6
    touch(tmp_path / "two", *(f"{grade}/P{grade}{side}.png" for grade in range(5) for side in "LR"))
    assert rows_of_folder(str(tmp_path / "two"), default_pattern())["patient"].nunique() == 5


@pytest.mark.parametrize(
    ("name", "patient", "side"),
    [
        ("9001104R.png", "9001104", "R"),
        ("9001104L.jpg", "9001104", "L"),
        ("9001104r.png", "9001104", "R"),
        ("9001104_L.png", "9001104", "L"),
        ("9001104-right.dcm", "9001104", "R"),
        ("9001104 Left.png", "9001104", "L"),
        ("9001104_1.png", "9001104", ""),
        ("9001104R (1).png", "9001104", "R"),  # a copy is of the same patient
        ("9001104R_V00.png", "9001104", "R"),
        ("P17_2.png", "P17", ""),
        ("P17R_2.png", "P17", "R"),
        ("p0042.tiff", "p0042", ""),
        ("patient_001_left.png", "patient_001", "L"),
        ("knee-0012.png", "knee-0012", ""),
        ("sub-001_ses-02_L.png", "sub-001", ""),
        ("OAI_9001104_R.png", "OAI_9001104", "R"),
        ("17.png", "17", ""),
    ],
)
def test_the_default_pattern_reads_plausible_names(tmp_path, name, patient, side):
    touch(tmp_path, f"3/{name}")
    assert facts(rows_of_folder(str(tmp_path), default_pattern())) == [(patient, side, "", 3)]


@pytest.mark.parametrize("name", ["L_17.png", "left_17.png", "R17.png", "knee_L_17.png", "anna.png", "1a2b3c.png"])
def test_the_default_pattern_does_not_guess(tmp_path, name):
    touch(tmp_path, f"3/{name}")
    wanted = f"{name}: the pattern .* finds no patient in this name; set data.pattern"
    refuses(wanted, rows_of_folder, str(tmp_path), default_pattern())


@given(
    st.from_regex(r"[A-KM-Q]{0,3}[0-9]{1,8}", fullmatch=True),
    st.sampled_from(["", "_", "-", " "]),
    st.sampled_from([("L", "R"), ("l", "r"), ("left", "right"), ("LEFT", "RIGHT")]),
    st.sampled_from([".png", "_1.png", "-V01.dcm", " (2).jpg"]),
)
@settings(max_examples=80, deadline=None)
def test_both_knees_of_a_patient_have_one_name_by_the_default_pattern(patient, between, sides, end):
    found = [re.search(default_pattern(), f"{patient}{between}{side}{end}") for side in sides]
    assert [match["patient"] for match in found] == [patient, patient]
    assert [match["side"][0].upper() for match in found] == ["L", "R"]


def test_the_pattern_can_be_given(tmp_path):
    touch(tmp_path, "0/left_anna.png", "1/right_anna.png", "2/anna.png")
    rows = rows_of_folder(str(tmp_path), r"^(?:(?P<side>left|right)_)?(?P<patient>[a-z]+)\.")
    assert facts(rows) == [("anna", "L", "", 0), ("anna", "R", "", 1), ("anna", "", "", 2)]
    rows = rows_of_folder(str(tmp_path), r"(?P<patient>.+)\.")
    assert rows["patient"].tolist() == ["left_anna", "right_anna", "anna"]
    assert (rows["side"] == "").all()


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (None, "must be given"),
        ("(", "not a regular expression"),
        (r"\d+", "needs a group"),
        (r"(?P<patient>\d*)", "no patient in this name"),
    ],
)
def test_a_pattern_that_cannot_work_stops(tmp_path, pattern, why):
    touch(tmp_path, "0/anna.png")
    refuses(why, rows_of_folder, str(tmp_path), pattern)


def test_a_name_that_is_not_utf_8_stops(tmp_path):
    touch(tmp_path, "0/anna.png")
    (tmp_path / "0/anna.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/0/caf\xe9.png"))
    refuses(r"0/caf\\xe9.png: the name of this file is not UTF-8", rows_of_folder, str(tmp_path), default_pattern())


def test_folder_says_what_it_looked_for(tmp_path):
    looked_for = r"looked for \{0,1,2,3,4\}/NAME"
    refuses(rf"no image found; {looked_for}; found nothing", rows_of_folder, str(tmp_path), default_pattern())
    touch(tmp_path, "0/notes.txt", "17.png")
    refuses(rf"{looked_for}; found 0, 17.png", rows_of_folder, str(tmp_path), default_pattern())
    touch(tmp_path, "train/0/17.png", "val/0/18.png")
    refuses(rf"{looked_for}; it has splits, so type data=chen2018", rows_of_folder, str(tmp_path), default_pattern())


# --- table


def write(tmp_path, text, name="knees.csv"):
    touch(tmp_path, "a.png", "b.png", "c/d.png")
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


FULL = """path,grade,patient,side,split,age
a.png,0,007,L,train,61
b.png,4,007,right,train,
c/d.png,2.0,P2,,test,70
"""


def test_a_table_with_every_column(tmp_path):
    rows = rows_of_table(write(tmp_path, FULL))
    assert facts(rows) == [("007", "L", "train", 0), ("007", "R", "train", 4), ("P2", "", "test", 2)]
    assert rows["path"].tolist() == [str(tmp_path / name) for name in ("a.png", "b.png", "c/d.png")]
    assert rows["age"].fillna(-1).tolist() == [61, -1, 70]


def test_parquet_gives_the_same_as_csv(tmp_path):
    csv = write(tmp_path, FULL)
    pd.read_csv(csv, dtype={"patient": "str"}).to_parquet(tmp_path / "knees.parquet")
    pd.testing.assert_frame_equal(rows_of_table(str(tmp_path / "knees.parquet")), rows_of_table(csv))


def test_patients_may_be_numbers_in_parquet(tmp_path):
    file = tmp_path / "knees.parquet"
    touch(tmp_path, "a.png", "b.png")
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "grade": [0, 1], "patient": [17, 18]})
    frame.to_parquet(file)
    assert rows_of_table(str(file))["patient"].tolist() == ["17", "18"]
    frame.assign(patient=[17.0, None]).to_parquet(file)
    refuses("line 3: patient '' is empty", rows_of_table, str(file))


def test_path_and_grade_are_enough(tmp_path):
    rows = rows_of_table(write(tmp_path, "path, grade\na.png, 0\n\nb.png, 1\n"))
    assert facts(rows) == [("", "", "", 0), ("", "", "", 1)]


def test_paths_may_start_elsewhere_or_be_absolute(tmp_path):
    write(tmp_path, "")
    (tmp_path / "tables").mkdir()
    file = tmp_path / "tables" / "knees.csv"
    file.write_text(f"path,grade\na.png,0\n{tmp_path}/b.png,1\n")
    assert rows_of_table(str(file), str(tmp_path))["path"].tolist() == [str(tmp_path / n) for n in ("a.png", "b.png")]
    refuses(rf"{tmp_path}/tables/a.png is missing", rows_of_table, str(file))
    file.write_text("path,grade\n../a.png,0\n")
    assert rows_of_table(str(file))["path"].tolist() == [str(tmp_path / "a.png")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("grade\n0\n", "column 'path' is missing; it has grade"),
        ("path,kl\na.png,0\n", "column 'grade' is missing; it has path, kl"),
        ("path,grade\n", "the table is empty"),
        ("", "not a readable CSV or Parquet table"),
        ('path,grade\n"a.png,0\n', "not a readable CSV or Parquet table"),
        ("path,grade\na.png,0\nb.png,7\n", "line 3: grade '7' is not one of 0, 1, 2, 3, 4"),
        ("path,grade\na.png,2.5\n", "line 2: grade '2.5' is not one of"),
        ("path,grade\na.png,-1\n", "line 2: grade '-1' is not one of"),
        ("path,grade\na.png,0\nb.png,\n", "line 3: grade 'nan' is not one of"),
        ("path,grade\na.png,True\n", "line 2: grade 'True' is not one of"),
        ("path,grade\na.png,mild\n", "line 2: grade 'mild' is not one of"),
        ("path,grade\na.png,inf\n", "line 2: grade 'inf' is not one of"),
        ("path,grade\n,0\n", "line 2: path '' is empty"),
        ("path,grade\na.png,0\nx.png,0\ny.png,1\n", r"x.png and 1 more are missing \(paths start at the table's"),
        ("path,grade\nc,0\n", r"/c is missing"),
        ("path,grade\na.png,0\na.png,1\n", r"a.png is listed 2 times"),
        ("path,grade\na.png,0\n./c/../a.png,1\n", r"a.png is listed 2 times"),
        ("path,grade,patient\na.png,0,P1\nb.png,0,\n", "line 3: patient '' is empty"),
        ("path,grade,patient\na.png,0,  \n", "line 2: patient '' is empty"),
        ("path,grade,side\na.png,0,L\nb.png,0,both\n", r"line 3: side 'both' is not L or R \(or empty\)"),
        ("path,grade,split\na.png,0,train\nb.png,0,new\n", "line 3: split 'new' is not one of train, val, test"),
        ("path,grade,split\na.png,0,train\nb.png,0,\n", "line 3: split '' is not one of train, val, test"),
    ],
)
def test_a_wrong_table_stops(tmp_path, text, why):
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=why) as caught:
        rows_of_table(file)
    assert str(caught.value).startswith((f"data.table={file}: ", f"{file}: "))
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_or_no_table_stops(tmp_path):
    refuses("data.table must be given; type data.table=FILE.csv", rows_of_table, None)
    refuses("gone.csv: there is no such file", rows_of_table, str(tmp_path / "gone.csv"))
    refuses("not a readable CSV or Parquet table", rows_of_table, write(tmp_path, "path,grade\n", "knees.parquet"))
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    refuses("not a readable CSV or Parquet table", rows_of_table, str(tmp_path / "binary.csv"))


def test_files_of_the_test_splits_are_not_looked_for(tmp_path):
    text = "path,grade,split\na.png,0,train\ngone.png,0,test\ngone_1.png,0,auto_test\n"
    assert len(rows_of_table(write(tmp_path, text))) == 3
    refuses("gone.png is missing", rows_of_table, write(tmp_path, text.replace(",test", ",val")))


def test_a_column_of_two_types_can_be_kept_as_parquet(tmp_path):
    names = [f"{i}.png" for i in range(3)]
    touch(tmp_path, *names)
    (tmp_path / "t.csv").write_text("path,grade,site\n0.png,0,12\n1.png,1,Ulm\n2.png,2,\n")
    rows = rows_of_table(str(tmp_path / "t.csv"))
    rows.to_parquet(tmp_path / "t.parquet")
    assert rows["site"].fillna("").tolist() == ["12", "Ulm", ""]


# --- phantom


def test_phantoms_are_listed_by_seed_and_shares():
    rows = rows_of_phantom(20, seed=3)
    assert len(rows) == 40
    assert rows["path"].str.startswith("phantom://3/").all()
    assert set(rows["side"]) == {"L", "R"}
    assert rows.equals(rows_of_phantom(20, seed=3))
    assert not rows["grade"].equals(rows_of_phantom(20, seed=4)["grade"])
    assert set(rows_of_phantom(20, 3, [0, 0, 1, 0, 0])["grade"]) == {2}


def test_further_columns_are_kept_but_a_hash_is_not_believed(tmp_path):
    text = "path,grade,patient,hash,age,sex,bmi,site,view\na.png,0,1,abc,61,f,27.5,007,PA\nb.png,1,2,abc,,,,Ulm,\n"
    rows = rows_of_table(write(tmp_path, text))
    assert list(rows.columns) == [*COLUMNS, "age", "sex", "bmi", "site", "view"]
    assert rows["hash"].tolist() == ["", ""]
    assert rows["age"].tolist()[0] == 61
    assert rows["site"].tolist() == ["007", "Ulm"]
    assert rows["view"].fillna("").tolist() == ["PA", ""]


def test_images_below_a_grades_folder_are_not_omitted_in_silence(tmp_path):
    touch(tmp_path, "0/1000001L.png", "0/deep/er/1000002L.png", "0/.thumbs/1.png", "1/notes/readme.txt")
    refuses(r"0/deep/er: has 1 image\(s\) below a grade's folder", rows_of_folder, str(tmp_path), default_pattern())


def test_a_link_to_nothing_is_listed_so_that_it_is_told(tmp_path):
    touch(tmp_path, "0/1000001L.png")
    (tmp_path / "0" / "1000002R.png").symlink_to(tmp_path / "gone.png")
    rows = rows_of_folder(str(tmp_path), default_pattern())
    assert rows["patient"].tolist() == ["1000001", "1000002"]


def test_a_patient_may_be_called_na(tmp_path):
    file = write(tmp_path, "path,grade,patient,age\n{}/a.png,1,NA,NA\n{}/a.png,2,null,61\n".replace("{}", "."))
    rows = table_source.read_table(Path(file))
    assert rows["patient"].tolist() == ["NA", "null"]
    assert rows["age"].isna().tolist() == [True, False]


@pytest.mark.parametrize("shares", [list("abcde"), [None] * 5, [[1, 2], 3]])
def test_shares_that_are_no_numbers_are_refused(shares):
    refuses("give five shares of 0 or more", rows_of_phantom, 5, 0, shares)


def test_a_pattern_that_is_no_text_is_refused(tmp_path):
    touch(tmp_path, "0/1000001L.png")
    refuses("data.pattern=1: not a regular expression", rows_of_folder, str(tmp_path), 1)
