from pathlib import Path

import pytest

from koa_lightning.data import split_table
from koa_lightning.data.sources.phantom import phantom as rows_of_phantom
from koa_lightning.data.split_settings import Ways, base_folder, make
from koa_lightning.errors import InputError

SHARES = {"val_fraction": 0.2, "test_fraction": 0.2}
NO_FOLDS = {"n_folds": None, "fold": 0, "seed": 3}
SPLITS = {"train", "val", "test"}


@pytest.fixture
def knees():
    return rows_of_phantom(30, 1)


@pytest.fixture
def exported(knees, tmp_path):
    """A split that the default would not make, and its table."""
    made = make(knees, Ways("stratified", shares=SHARES, folds=NO_FOLDS), SPLITS, "x").manifest
    split_table.write(made, None, tmp_path / "split.csv")
    return made, str(tmp_path / "split.csv")


def test_parts_of_a_table_are_those_that_were_written(knees, exported):
    made, file = exported
    read = make(knees, Ways("table", file, None, SHARES, NO_FOLDS), SPLITS, "x")
    assert read.manifest["split"].tolist() == made["split"].tolist()
    assert read.table is not None and read.table.checksum in read.name


def test_folds_are_made_within_what_is_not_test(knees, exported):
    made, file = exported
    read = make(knees, Ways("table", file, None, SHARES, NO_FOLDS | {"n_folds": 3, "fold": 1}), SPLITS, "x").manifest
    assert ((read["split"] == "test") == (made["split"] == "test")).all()
    assert set(read["split"]) == SPLITS


def test_another_split_without_its_file(knees):
    with pytest.raises(InputError, match=r"data\.split_table must be given"):
        make(knees, Ways("table", folds=NO_FOLDS), SPLITS, "x")


def test_where_paths_begin():
    assert base_folder("a/b", "c/d.csv") == Path("a/b")
    assert base_folder(None, "c/d.csv") == Path("c")
    assert base_folder(None, None) is None
