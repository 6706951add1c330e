import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from koa_lightning.data import manifest as mf
from koa_lightning.data.cache import Preprocessing
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.reading import content, hash_of, pixels
from koa_lightning.errors import InputError

ROW = {"path": "db://7"}


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def gray(seed, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (40, 32), dtype=dtype, endpoint=True)


def test_bytes_and_arrays_are_the_same_picture():
    image = gray(0)
    assert np.array_equal(pixels(ROW, lambda row: png(image)), image)
    assert np.array_equal(pixels(ROW, lambda row: image), image)
    wide = gray(0, np.uint16)
    assert np.array_equal(pixels(ROW, lambda row: wide), pixels(ROW, lambda row: png(wide)))


def test_the_hash_is_that_of_the_content():
    assert hash_of(ROW, lambda row: gray(0)) == hash_of({"path": "other"}, lambda row: gray(0))
    assert hash_of(ROW, lambda row: gray(0)) != hash_of(ROW, lambda row: gray(1))
    assert hash_of(ROW, lambda row: gray(0)) != hash_of(ROW, lambda row: gray(0).reshape(32, 40))


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ("text", "the source returns str; it must return bytes"),
        (np.zeros((4, 40, 40), np.uint8), r"the source returns uint8 \(4, 40, 40\)"),
        (np.zeros((40, 40)), "the source returns float64"),
        (np.zeros((3, 40), np.uint8), "a side is under 8"),
    ],
)
def test_anything_else_is_refused_by_its_name(found, line):
    with pytest.raises(InputError, match=f"^db://7: .*{line}"):
        content(ROW, lambda row: found)
    assert hash_of(ROW, lambda row: found) == ""


def test_a_source_that_fails_is_one_line():
    with pytest.raises(InputError, match=r"^db://7: the source cannot read this row \('x'\)$"):
        pixels(ROW, lambda row: {}["x"])


class Database:
    """Knees that are in no file."""

    def __init__(self, broken=()):
        self.asked, self.broken = [], broken

    def __call__(self):
        rows = [{"path": f"db://{i}", "grade": i % 5, "patient": f"P{i}", "key": i} for i in range(40)]
        return mf.make(pd.DataFrame(rows), "data=database")

    def read(self, row):
        self.asked.append(row["key"])
        if row["key"] in self.broken:
            raise OSError("gone")
        return gray(row["key"])


def test_a_data_module_reads_hashes_and_caches_them(tmp_path):
    options = {"name": "database", "preprocessing": Preprocessing(32), "batch_size": 4, "split": "stratified",
               "cache_dir": str(tmp_path), "quiet": True}  # fmt: skip
    source = Database()
    data = KneeDataModule(source, **options).prepare(("train", "val"))
    assert sum(map(sum, data.counts.values())) == len(set(source.asked)) < 40  # those of test are not read
    again = KneeDataModule(Database(), **options).prepare(("train", "val"))
    assert again.fingerprint == data.fingerprint
    with pytest.raises(InputError, match=r"the source cannot read this row \(gone\)"):
        KneeDataModule(Database(range(40)), **options).prepare(("train", "val"))
