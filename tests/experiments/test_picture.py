"""The figure of the recipe, from a table that a machine with bf16 and one without have filled."""

import pandas as pd
import pytest

from experiments.recipe import picture

BASE = "loss=soft_ordinal data.image_size=144"


def row(name, asks, more="", against=None, gain=None):
    gains = {f"{metric}_gain{end}": gain for metric in picture.PANELS for end in ("", "_low", "_high")}
    facts = {"tta": "flip", "minutes_alone": 4.0, "knees": 20, "accuracy": 0.6, "quadratic_kappa": 0.7}
    return {"name": name, "asks": asks, "overrides": f"{BASE} {more}".strip(), "against": against, **facts, **gains}


@pytest.fixture
def table():
    return pd.DataFrame(
        [
            row("rank", "the reference"),
            row("rank_fp32", "speed, without bf16", "trainer.precision=fp32"),
            row("rank_seed_1", "another seed", "seed=1", gain=0.01),
            row("rank_mixup", "mixing", "mix=mixup", "rank", 0.02),
            row("rank_224", "resolution", "data.image_size=224", "rank_fp32", 0.03),
        ]
    )


def test_a_run_says_over_which_other_it_gains(table):
    rows = table.set_index("name").loc[["rank_seed_1", "rank_mixup", "rank_224"]]
    assert picture.labels(rows, BASE) == ["seed=1", "mix=mixup", "data.image_size=224 (over rank_fp32)"]


def test_without_such_a_column_all_gain_over_the_reference(table):
    rows = table.drop(columns="against").set_index("name").loc[["rank_mixup"]]
    assert picture.labels(rows, BASE) == ["mix=mixup"]


@pytest.mark.parametrize(("kept", "drawn"), [(["rank", "rank_fp32"], False), (["rank_mixup"], False), (None, True)])
def test_it_is_drawn_where_something_gains_over_the_reference(table, tmp_path, kept, drawn):
    rows = table if kept is None else table[table["name"].isin(kept)]
    rows.to_csv(tmp_path / "results.csv", index=False)
    assert (picture.draw(tmp_path / "results.csv") is not None) == drawn
    assert (tmp_path / "results.png").exists() == drawn
