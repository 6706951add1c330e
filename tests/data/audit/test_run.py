from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from koa_lightning.config.compose import compose
from koa_lightning.data import polarity
from koa_lightning.data.audit import near
from koa_lightning.data.audit.gather import gather
from koa_lightning.data.audit.run import run
from koa_lightning.data.fitting import fit
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.data.sources.phantom import phantom as rows_of_phantom

PAIR = {"similarity": 0.9, "scale": 1.0, "dx": 0.0, "dy": 0.0}


@pytest.fixture
def knees(alone, tmp_path):
    cfg = compose("audit", ["data=phantom", "data.source.n_patients=12", f"data.cache_dir={tmp_path}"]).data
    rows = rows_of_phantom(12, 2018)
    return gather(lambda: rows.assign(patient=rows["patient"].where(rows.index > 1, "")), cfg, quiet=True)


def test_unknown_patients_are_one_note(knees):
    (finding,) = run(knees, {"no_patient"}, quiet=True).found
    assert (finding.severity, finding.rows) == ("note", [0, 1])
    assert finding.evidence.startswith("2 of 24 files have no patient")


def test_inverted_films_of_any_shape_are_those_that_the_preprocessing_repairs(knees):
    rows, shapes = list(range(len(knees.rows))), [(320, 256), (320, 290), (256, 320), (300, 300)] * 6
    images = [Image.fromarray(image).resize(shape[::-1]) for image, shape in zip(knees.images, shapes, strict=True)]
    films = [np.asarray(image) if row % 3 else 255 - np.asarray(image) for row, image in enumerate(images)]
    fitted = np.stack([fit(film, 224, "letterbox") for film in films])
    made = replace(knees, images=fitted, shapes=np.array(shapes))
    found = [finding.rows[0] for finding in run(made, {"inverted"}, quiet=True).found]
    assert sorted(found) == rows[::3]
    assert sorted(found) == [row for row in rows if Preprocessing(64, fix_polarity=True).repaired(films[row])[1]]


def test_inverted_knees_are_turned_for_the_search_and_the_cache_is_left(knees, monkeypatch):
    before, seen = knees.images[3].copy(), {}

    def find(images, *, quiet):
        seen.update(turned=images[3].copy(), other=images[4].copy())
        return pd.DataFrame([{"row_a": 3, "row_b": 5} | PAIR])

    monkeypatch.setattr(polarity, "scores", lambda images: np.where(np.arange(len(images)) == 3, -1.0, 1.0))
    monkeypatch.setattr(near, "find_duplicates", find)
    result = run(knees, {"near_duplicate", "inverted"}, quiet=True)
    assert np.array_equal(seen["turned"], 255 - before)
    assert np.array_equal(seen["other"], knees.images[4])
    assert np.array_equal(knees.images[3], before)
    assert [finding.rows for finding in result.found if finding.kind == "inverted"] == [[3]]
    assert result.pairs[["row_a", "row_b", "kind"]].to_numpy().tolist() == [[3, 5, "near_duplicate"]]
