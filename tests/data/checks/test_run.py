import numpy as np
import pandas as pd
import pytest

from koa_lightning.config import compose
from koa_lightning.data import sources
from koa_lightning.data.checks import near, polarity
from koa_lightning.data.checks.gather import gather
from koa_lightning.data.checks.run import run

PAIR = {"similarity": 0.9, "scale": 1.0, "dx": 0.0, "dy": 0.0}


@pytest.fixture
def knees(alone, tmp_path):
    cfg = compose("audit", ["data=phantom", "data.source.n_patients=12", f"data.cache_dir={tmp_path}"]).data
    rows = sources.phantom(12, 2018)
    return gather(lambda: rows.assign(patient=rows["patient"].where(rows.index > 1, "")), cfg, quiet=True)


def test_unknown_patients_are_one_note(knees):
    (finding,) = run(knees, {"no_patient"}, quiet=True).found
    assert (finding.severity, finding.rows) == ("note", [0, 1])
    assert finding.evidence.startswith("2 of 24 files have no patient")


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
