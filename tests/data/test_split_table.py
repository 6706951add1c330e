import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koa_lightning.config.compose import compose
from koa_lightning.data import build as data_build
from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table
from koa_lightning.data import splits as splitting
from koa_lightning.data import write_split as entry
from koa_lightning.errors import InputError

OPTIONS = ["data.image_size=16", "data.cache_dir=cache"]


@pytest.fixture
def folder(knees, tmp_path, monkeypatch):
    """A copy of the knees, with a space in its name, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(knees, tmp_path / "my knees")
    return tmp_path / "my knees"


@pytest.fixture
def data(folder):
    """Return a data module of the folder, by its config."""

    def make(*more, root=folder):
        cfg = compose("train", ["data=folder", f"data.root='{root}'", *OPTIONS, *more])
        return data_build.data_module(cfg.data, quiet=True)

    return make


@pytest.fixture
def written(folder):
    """Write the split of the folder; return the file."""

    def run(*more, out="out"):
        result = entry.split(compose("split", ["data=folder", f"data.root='{folder}'", *more, f"out={out}"]))
        return Path(result["file"])

    return run


def table_of(file):
    return pd.read_csv(file, skiprows=1, dtype={"patient": "str", "fold": "Int64"}, keep_default_na=False, na_values=[])


def rewrite(file, change):
    """Change a table and give it a right checksum again."""
    rows = change(table_of(file))
    text = rows.to_csv(index=False)
    file.write_text(f"{split_table._FIRST}{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def imported(file, *more):
    return ["data.split=table", f"data.split_table='{file}'", *more]


@pytest.mark.sample(1)
@pytest.mark.parametrize("folds", [[], ["data.folds=3", "data.fold=1"]])
def test_written_and_read_again_it_gives_the_same_splits_fingerprint_and_cache(data, written, folds):
    file = written("data.split_seed=3", "data.val_fraction=0.3", *folds[:1])
    one = data("data.split_seed=3", "data.val_fraction=0.3", *folds).prepare(("train", "val"))
    other = data(*imported(file), *folds).prepare(("train", "val"))
    assert other.fingerprint == one.fingerprint
    for split in ("train", "val"):
        assert np.array_equal(other.datasets[split].rows, one.datasets[split].rows)
        assert np.array_equal(other.datasets[split].images, one.datasets[split].images)
        assert other.datasets[split].images.filename == one.datasets[split].images.filename
    assert (
        data(*imported(file), *folds)
        .manifest()
        .equals(data("data.split_seed=3", "data.val_fraction=0.3", *folds).manifest())
    )


def test_what_it_holds(written, folder):
    file = written("data.folds=3")
    rows = table_of(file)
    assert list(rows.columns) == list(split_table.COLUMNS)
    assert rows["path"].is_monotonic_increasing
    assert all((folder / path).is_file() for path in rows["path"])
    test = rows["split"] == "test"
    assert rows["fold"].isna().equals(test)
    assert set(rows["fold"].dropna()) == {0, 1, 2}
    assert (rows["hash"] == "").equals(test)
    assert rows["hash"][0] == mf.hash_file(str(folder / rows["path"][0]))
    first = file.read_text().splitlines()[0]
    assert first == f"# koa-lightning split, sha256 of what follows: {split_table.read(str(file)).checksum}"


def test_files_of_the_test_split_are_not_opened(written, folder):
    test = [folder / path for path in table_of(written())["path"][lambda p: p.index >= 0]]
    rows = table_of(written())
    closed = [folder / path for path in rows.loc[rows["split"] == "test", "path"]]
    assert 0 < len(closed) < len(test)
    opened = []
    sys.addaudithook(lambda event, what: opened.append(str(what[0])) if event == "open" and closed else None)
    written(out="other")
    assert not {str(path) for path in closed} & set(opened)
    assert {str(path) for path in test} & set(opened)
    closed.clear()  # the hook stays for ever


@pytest.mark.slow
def test_the_run_says_which_split_it_was(data, written):
    file = written()
    checksum = split_table.read(str(file)).checksum
    assert {len(checksum)} == {64}
    named = {
        "": data(),
        "data.folds=2": data("data.folds=2"),
        "table": data(*imported(file)),
        "table folds": data(*imported(file), "data.folds=2"),
        "folds in table": data(*imported(written("data.folds=2", out="more")), "data.folds=2"),
    }
    for module in named.values():
        module.rows(("train", "val"))
    assert named[""].split_name == "stratified (val 0.15, test 0.15, seed 0)"
    assert named["data.folds=2"].split_name == "stratified (val 0.15, test 0.15, seed 0) in 2 folds (seed 0)"
    assert named["table"].split_name == f"table sha256={checksum}"
    assert named["table folds"].split_name == f"table sha256={checksum} in 2 folds (seed 0)"
    assert named["folds in table"].split_name.endswith(" in 2 folds")


@pytest.mark.slow
def test_a_table_without_folds_has_them_made_as_ever(data, written):
    file = written()
    for fold in range(3):
        one, other = (
            data("data.folds=3", f"data.fold={fold}"),
            data(*imported(file, "data.folds=3", f"data.fold={fold}")),
        )
        assert one.manifest().equals(other.manifest())


def test_folds_of_the_train_split_alone(data, written):
    aside = ["data.folds=2", "data.fold=1", "data.fold_val=false"]
    whole = data().manifest()
    train = set(whole.loc[whole["split"] == "train", "path"])
    for file in (written(), written("data.folds=2", out="folds")):
        made = data(*imported(file, *aside)).manifest()
        assert set(made.loc[made["split"] != "test", "path"]) == train
        assert {"train", "val"} <= set(made["split"])


def test_line_ends_may_change(data, written):
    file = written()
    file.write_text(file.read_text(), newline="\r\n")
    assert b"\r\n" in file.read_bytes()
    assert data(*imported(file)).rows(("train", "val")).shape[0]


def drop(rows):
    return rows[rows["split"] != "train"]


def swap_grade(rows):
    return rows.assign(grade=(rows["grade"] + 1) % 5)


def into_test(rows):
    return rows.assign(split=["test", *rows["split"][1:]])


def other_fold(rows):
    fold = rows["fold"].copy()
    fold[fold.first_valid_index()] = (fold.dropna().iloc[0] + 1) % 2
    return rows.assign(fold=fold)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: pd.concat([rows, rows[:1]]), r"[\w/.]+ is listed twice"),
        (lambda rows: rows.drop(columns="hash"), "column 'hash' is missing"),
        (drop, r"\d+ knee\(s\) of the data are missing from it, e.g. \d/P"),
        (
            lambda rows: pd.concat([rows, rows[:1].assign(path="0/new.png")]),
            "of its knees are missing from the data, e.g. 0/new",
        ),
        (swap_grade, r"0/P\w+.png has grade 1 in the table but 0 in the data"),
        (lambda rows: rows.assign(patient=rows["patient"] + "x"), "has patient P[0-9]+x in the table but P[0-9]+ in"),
        (lambda rows: rows.assign(split=np.where(rows.index % 2, "train", "val")), r"patient\(s\) in two splits"),
        (other_fold, "is in two folds"),
    ],
)
def test_a_table_that_does_not_fit_stops(data, written, change, said):
    file = written("data.folds=2")
    rewrite(file, change)
    with pytest.raises(InputError, match=said) as caught:
        data(*imported(file)).rows(("train", "val"))
    assert "\n" not in str(caught.value)
    assert f"data.split_table={file}" in str(caught.value)


def test_a_table_that_was_changed_stops(data, written):
    file = written()
    file.write_text(file.read_text().replace(",val,", ",train,", 1))
    with pytest.raises(InputError, match="it has changed since it was written"):
        data(*imported(file)).rows(("train", "val"))


def test_what_is_no_table_stops(data, tmp_path):
    (tmp_path / "plain.csv").write_text("path,split\n")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    for name, said in (("plain", "has no checksum"), ("bytes", "cannot be read"), ("none", "there is no such file")):
        with pytest.raises(InputError, match=said):
            data(*imported(tmp_path / f"{name}.csv")).rows(("train", "val"))
    with pytest.raises(InputError, match=r"data\.split_table must be given"):
        data("data.split=table").rows(("train", "val"))


def test_folds_of_another_number_stop(data, written):
    file = written("data.folds=2")
    with pytest.raises(InputError, match=r"data.folds=3: .*split.csv has 2 folds; type data.folds=2"):
        data(*imported(file), "data.folds=3").rows(("train", "val"))


def test_the_test_split_may_be_elsewhere_until_it_is_measured(data, written, folder):
    file = written()
    rows = table_of(file)
    for path in rows.loc[rows["split"] == "test", "path"]:
        (folder / path).unlink()
    assert data(*imported(file)).prepare(("train", "val")).counts
    with pytest.raises(InputError, match="of its knees are missing from the data"):
        data(*imported(file)).prepare(("test",))


def test_another_content_is_said(data, written, folder, capsys):
    file = written()
    before = data(*imported(file)).prepare(("train", "val")).fingerprint
    assert "WARNING" not in capsys.readouterr().err
    rows = table_of(file)
    one, other = (folder / path for path in rows.loc[rows["split"] == "train", "path"][:2])
    shutil.copy(one, other)
    assert data(*imported(file)).prepare(("train", "val")).fingerprint != before
    [line] = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert f"1 file(s) have changed since it was written, e.g. {other.relative_to(folder)}" in line


def test_auto_test_keeps_its_split(tmp_path):
    frame = pd.DataFrame({"path": ["/x/a", "/x/b", "/x/c"], "grade": 0, "patient": ["1", "2", "3"]})
    whole = mf.make(frame.assign(split=["train", "val", "auto_test"]), "here")
    split_table.write(whole[:2], tmp_path, tmp_path / "split.csv")
    table = split_table.read(str(tmp_path / "split.csv"))
    for folds in (None, 2):
        made = split_table.assign(whole, table, tmp_path, splits={"train"}, n_folds=folds, fold=0, seed=0)
        assert made["split"].iloc[2] == "auto_test"


PATIENTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), min_size=6, max_size=30)


@given(PATIENTS, st.sampled_from([None, 2, 4]), st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_any_split_survives_the_file(tmp_path_factory, patients, n, seed):
    folder = tmp_path_factory.mktemp("split")
    rows = [
        (f"007{i}", grade, f"{folder}/a, b/{i}é{k}.png") for i, g in enumerate(patients) for k, grade in enumerate(g)
    ]
    whole = mf.make(pd.DataFrame(rows, columns=["patient", "grade", "path"]), "here")

    def make(fold, folds):
        return splitting.assign(
            whole,
            split="stratified",
            val_fraction=0.2,
            test_fraction=0.2,
            n_folds=folds,
            fold=fold,
            seed=seed,
            where="",
        )

    made = make(0, None)
    if n:
        made["fold"] = pd.array([pd.NA] * len(made), dtype="Int64")
        for fold in range(n):
            made.loc[make(fold, n)["split"] == "val", "fold"] = fold
    split_table.write(made, folder, folder / "split.csv")
    table = split_table.read(str(folder / "split.csv"))
    for fold in range(n or 1):
        back = split_table.assign(whole, table, folder, splits=set(mf.SPLITS), n_folds=n, fold=fold, seed=0)
        assert back["split"].tolist() == make(fold, n)["split"].tolist()
