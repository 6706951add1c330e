import pytest

from koa_lightning.config.compose import compose
from koa_lightning.data import sources, split_table
from koa_lightning.data.audit.gather import gather
from koa_lightning.data.split_settings import Ways, make

SHARES = {"val_fraction": 0.2, "test_fraction": 0.2}


NO_FOLDS = {"n_folds": None, "fold": 0, "seed": 3}


PARTS = {"train", "val", "test"}


@pytest.fixture
def knees():
    return sources.phantom(30, 1)


@pytest.fixture
def exported(knees, tmp_path):
    """A split that the default would not make, and its table."""
    made = make(knees, Ways("stratified", shares=SHARES, folds=NO_FOLDS), PARTS, "x").manifest
    split_table.write(made, None, tmp_path / "split.csv")
    return made, str(tmp_path / "split.csv")


def test_the_audit_looks_at_the_parts_that_training_would_use(knees, exported, tmp_path):
    made, file = exported
    typed = ["data=phantom", "data.split=table", f"data.split_table={file}", f"data.cache_dir={tmp_path}"]
    audited = gather(lambda: knees, compose("audit", typed).data, quiet=True)
    assert audited.rows["split"].tolist() == made["split"].tolist()
