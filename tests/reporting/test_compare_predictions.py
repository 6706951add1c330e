import json
from pathlib import Path

import pandas as pd
import pytest

from koa_lightning.config.compose import compose
from koa_lightning.config.metrics import chosen
from koa_lightning.config.typed import with_tables
from koa_lightning.errors import InputError
from koa_lightning.reporting.compare_predictions import compare_predictions

FAST = "n_resamples=100"


@pytest.fixture
def tables(graded_table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("eval of A").mkdir()
    graded_table(60).to_parquet("eval of A/predictions.parquet")
    graded_table(60, seed=1).to_csv("lr=3.csv", index=False)
    return "eval of A", "lr=3.csv"


def test_two_tables_typed_one_after_the_other(tables, launch):
    ended = launch("compare_predictions", *tables, "out=made", FAST)
    assert ended.code == 0, ended.err
    text = "\n".join(ended.out)
    assert "A: eval of A" in text and "B: lr=3.csv" in text and "120 knees of 60 patients" in text
    assert ended.out[-2] == "research use only, not a medical device" and ended.out[-1].endswith("made")
    made = json.loads(Path("made/comparison.json").read_text())
    assert list(made["differences"]) == chosen("compared")
    table = pd.read_csv("made/comparison.csv").set_index("metric")
    assert table.loc["mae", "p_holm"] == pytest.approx(made["differences"]["mae"]["p_holm"])
    assert (made["n_knees"], made["n_patients"]) == (120, 60)


@pytest.mark.slow
def test_absolute_folders(tables, graded_table, launch, tmp_path):
    for name in ("A", "data", "a=b"):
        (tmp_path / name).mkdir()
        graded_table(60).to_parquet(tmp_path / name / "predictions.parquet")
    for first, second in (("A", "data"), ("A", "a=b"), ("data", "A")):
        ended = launch("compare_predictions", str(tmp_path / first), str(tmp_path / second), "out=made", FAST)
        assert (ended.code, ended.err) == (0, [])
    ended = launch("compare_predictions", "data", "A", "out=made", FAST)  # named as a group of the configs
    assert (ended.code, ended.err) == (0, [])


def test_the_same_as_by_their_names_and_seed(tables):
    cfg = compose("compare_predictions", ["first='eval of A'", "second='lr=3.csv'", FAST, "out=a", "metrics=mae"])
    one = compare_predictions(cfg)
    assert list(one["differences"]) == ["mae"]
    assert compare_predictions(cfg)["differences"] == one["differences"]
    cfg.seed = 1
    assert compare_predictions(cfg)["differences"] != one["differences"]


def test_names_are_put_before_what_was_typed_bare(tables):
    assert with_tables(["seed=1", "eval of A", "lr=3.csv"]) == ["first='eval of A'", "second='lr=3.csv'", "seed=1"]
    assert with_tables(["first=a", "second=b"]) == ["first=a", "second=b"]
    with pytest.raises(InputError, match="c: compare_predictions takes two tables"):
        with_tables(["a", "b", "c"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["eval of A"], "second: must be given; type second=VALUE"),
        (["eval of A", "no.csv"], "no.csv: there is no such file"),
        (["eval of A", "other.csv"], "eval of A and other.csv are not of the same knees"),
        (["eval of A", "lr=3.csv", "metrics=[quadratic_kapa]"], "no such metric; did you mean 'quadratic_kappa'?"),
        (["eval of A", "lr=3.csv", "metrics=[]"], "metrics=[]: name at least one"),
        (["eval of A", "lr=3.csv", "n_resamples=3"], "n_resamples=3: must be a whole number from 100"),
        (["eval of A", "lr=3.csv", "third.csv"], "third.csv: compare_predictions takes two tables"),
    ],
)
def test_bad_input_is_one_line(tables, launch, graded_table, arguments, line):
    graded_table(20).to_csv("other.csv", index=False)
    ended = launch("compare_predictions", *arguments)
    assert ended.code == 2
    assert len(ended.err) == 1 and line in ended.err[0], ended.err
    assert not Path("outputs").exists() or not list(Path("outputs").iterdir())
