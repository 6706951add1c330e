from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koa_lightning.config.compose import compose
from koa_lightning.data import build as data_build
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.sources.chen2018 import chen2018 as rows_of_chen2018

SIZE = 16


SPLITS = ("train", "val")


def knee(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE), dtype=np.uint8)


def chen(root, splits=("train", "val", "test", "auto_test"), patients=10):
    """Write the layout of Chen 2018: two knees a patient, each grade in each split; return the folder."""
    numbers = {"train": 9_000_000, "val": 9_100_000, "test": 9_200_000, "auto_test": 9_200_000}
    for split in splits:
        for i in range(patients):
            for side in ("_1", "_2") if split == "auto_test" else "LR":
                file = root / split / str((i + (side == "R")) % 5) / f"{numbers[split] + i}{side}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(knee(len(list(root.rglob("*.png"))))).save(file)
    return root


@pytest.fixture
def root(tmp_path):
    return chen(tmp_path / "chen")


def test_every_data_config_makes_its_data_module(root, tmp_path):
    rows = rows_of_chen2018(str(root))
    rows.drop(columns=["hash", "split"]).to_csv(tmp_path / "knees.csv")
    plain = tmp_path / "plain"
    for path, grade in zip(rows["path"], rows["grade"], strict=True):
        if "auto_test" not in path:
            (plain / str(grade)).mkdir(parents=True, exist_ok=True)
            (plain / str(grade) / Path(path).name).write_bytes(Path(path).read_bytes())
    overrides = {
        "chen2018": [f"data.root={root}"],
        "folder": [f"data.root={plain}"],
        "table": [f"data.table={tmp_path / 'knees.csv'}"],
        "phantom": ["data.source.n_patients=40"],
    }
    for name, more in overrides.items():
        usual = ["data.image_size=32", "data.batch_size=4", f"data.cache_dir={tmp_path / 'cache'}"]
        cfg = compose("train", [f"data={name}", *usual, *more])
        data = data_build.data_module(cfg.data, seed=1, quiet=True).prepare(SPLITS)
        assert data.name == name
        assert data.preprocessing == Preprocessing(32)
        assert (data.batch_size, data.eval_batch_size, data.seed) == (4, 8, 1)
        assert min(data.counts["train"]) > 0
        assert data.caveats == (["phantom data"] if name == "phantom" else [])
        assert next(iter(data.train_dataloader()))["image"].shape == (4, 1, 32, 32)


def test_drawn_knees_are_marked_whatever_the_data_are_called(tmp_path):
    overrides = ["data.name=mine", "data.source.n_patients=40", f"data.cache_dir={tmp_path}", "data.image_size=32"]
    data = data_build.data_module(compose("train", overrides).data, quiet=True).prepare(SPLITS)
    assert (data.name, data.caveats) == ("mine", ["phantom data"])
