import numpy as np
import pandas as pd
import pytest
from PIL import Image

from koa_lightning.config.compose import compose
from koa_lightning.data import manifest as mf
from koa_lightning.data import split_table
from koa_lightning.data.audit.gather import SIZE, gather
from koa_lightning.data.sources.phantom import phantom as rows_of_phantom
from koa_lightning.data.split_settings import Ways, make

NO_FOLDS = {"n_folds": None, "fold": 0, "seed": 3}  # and a split that the default would not make


@pytest.fixture
def knees():
    return rows_of_phantom(30, 1)


def test_the_audit_looks_at_the_splits_that_training_would_use(knees, tmp_path):
    ways = Ways("stratified", shares={"val_fraction": 0.2, "test_fraction": 0.2}, folds=NO_FOLDS)
    made, file = make(knees, ways, {"train", "val", "test"}, "x").manifest, tmp_path / "split.csv"
    split_table.write(made, None, file)
    typed = ["data=phantom", "data.split=table", f"data.split_table={file}", f"data.cache_dir={tmp_path}"]
    audited = gather(lambda: knees, compose("audit", typed).data, quiet=True)
    assert audited.rows["split"].tolist() == made["split"].tolist()


def test_nothing_that_is_wrong_with_the_files_stops_it(tmp_path, capsys):
    for name in ("0a.png", "0b.png", "0c.png"):
        Image.fromarray(np.random.default_rng(3).integers(0, 256, (300, 200), np.uint8)).save(tmp_path / name)
    (tmp_path / "0b.png").write_bytes(b"damaged")
    (tmp_path / "0c.png").unlink()
    frame = pd.DataFrame({"path": [str(tmp_path / f"0{name}.png") for name in "abc"], "grade": [0, 1, 2]})
    rows = mf.make(frame.assign(patient=["1", "2", "3"], split="train"), "x")
    cfg = compose("audit", ["data=phantom", f"data.cache_dir={tmp_path / 'cache'}"]).data
    found = gather(lambda: rows, cfg, quiet=True)
    assert found.readable.tolist() == [True, False, False]
    assert (found.rows["hash"] == "").tolist() == [False, False, True]
    assert found.images.shape == (3, SIZE, SIZE)
    assert found.images[1:].max() == 0 < found.images[0].max()
    assert found.shapes.tolist() == [[300, 200], [0, 0], [0, 0]]


def test_a_split_that_cannot_be_made_is_said_and_the_splits_stay(knees, tmp_path, capsys):
    asked = ["data=phantom", "data.folds=500", f"data.cache_dir={tmp_path}"]
    found = gather(lambda: knees, compose("audit", asked).data, quiet=True)
    assert "fewer than data.folds=500; the audit continues with the splits as they are" in capsys.readouterr().err
    assert found.rows["split"].tolist() == knees["split"].tolist()
