import numpy as np
import pandas as pd
import pytest
from PIL import Image

from koa_lightning.data.both_knees import shown, words
from koa_lightning.data.cache import open_cache
from koa_lightning.data.datamodule import KneeDataModule
from koa_lightning.data.phantom.manifest import draw_phantoms
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.data.sources.table import table


def film(seed=1, size=160):
    return np.hstack(draw_phantoms(["p", "p"], ["R", "L"], [0, 2], seed=seed, size=size))


@pytest.mark.parametrize(("laterality", "expected"), [(None, True), ("", True), ("L", False)])
def test_a_side_in_the_header_means_one_knee(write_dicom, tmp_path, laterality, expected):
    path = write_dicom(tmp_path / "a.dcm", film().astype(np.uint16) * 16, ImageLaterality=laterality)
    assert shown(film(), str(path)) is expected


def test_pictures_without_a_file_and_of_one_knee(tmp_path):
    assert shown(film(), "in an archive")
    assert not shown(film()[:, :160], "in an archive")
    assert not shown(film()[:, :160], str(tmp_path / "nosuch.png"))


def test_words():
    said = words(["a", "b"], 5)
    assert said.startswith("2 of 5 pictures show both knees but count as one, e.g. a; ")
    assert "python -m koa_lightning.prepare input=FOLDER" in said


@pytest.fixture
def films(write_dicom, tmp_path):
    """A table of DICOM films of both knees, each of one grade, and of pictures of one knee."""
    paths = []
    for number in range(5):
        write_dicom(tmp_path / f"{number}.dcm", film(number).astype(np.uint16) * 16)
        Image.fromarray(draw_phantoms([f"q{number}"], ["L"], [1], seed=0, size=160)[0]).save(tmp_path / f"{number}.png")
        paths += [f"{number}.dcm", f"{number}.png"]
    rows = pd.DataFrame({"path": paths, "grade": [0, 1, 2, 3, 4] * 2, "patient": [f"p{i}" for i in range(10)]})
    rows["split"] = ["train"] * 5 + ["val"] * 5
    rows.to_csv(tmp_path / "knees.csv", index=False)
    return tmp_path / "knees.csv"


def test_a_source_that_holds_films_says_so_each_time(films, tmp_path, capsys):
    """From the cache too, and as a mark of what is made with them."""
    for _ in range(2):
        data = KneeDataModule(
            lambda: table(str(films)), name="table", preprocessing=Preprocessing(64), batch_size=2, quiet=True,
            cache_dir=str(tmp_path / "cache"),
        )  # fmt: skip
        data.prepare(("train", "val"))
        assert data.caveats == ["5 films of both knees counted as one knee"]
        said = capsys.readouterr().err
        assert said.count("5 of 10 pictures show both knees") == 1
        assert f"e.g. {tmp_path}/0.dcm" in said


def test_the_cache_keeps_which_rows_are_films(films):
    paths = [str(films.parent / name) for name in ("0.png", "0.dcm", "1.dcm")]
    for _ in range(2):
        cache = open_cache(paths, ["a", "b", "c"], ["", "", ""], Preprocessing(32), films.parent / "cache", quiet=True)
        assert cache.films == [1, 2]
