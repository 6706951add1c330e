import math

import pytest

from koa_lightning.tracking import differences
from koa_lightning.tracking.runs import find_runs
from koa_lightning.tracking.store import open_store


def runs_of(place, *ids):
    return find_runs(open_store(None, place / "mlruns", create=False), list(ids))


def test_only_what_differs_is_shown(log_run, place):
    a = log_run(
        "a",
        params={"optimizer.lr": "0.001", "seed": 1, "out": "x", "tracking.parent": "p", "data.cache_dir": "c"},
        tags={"git.commit": "123", "version.torch": "2", "data.fingerprint": "f", "device": "cpu", "mlflow.user": "u"},
    )
    b = log_run(
        "b",
        params={"optimizer.lr": "0.003", "seed": 1, "out": "y", "tracking.parent": "q", "loss.gamma": "2"},
        tags={"git.commit": "456", "version.torch": "2", "data.fingerprint": "g", "device": "cpu", "mlflow.user": "v"},
    )
    runs = runs_of(place, a, b)
    table = differences.differing([differences.facts(run) for run in runs], differences.labels(runs))
    assert table.to_numpy().tolist() == [
        ["config", "loss.gamma", "-", "2"],
        ["config", "optimizer.lr", "0.001", "0.003"],
        ["data", "data.fingerprint", "f", "g"],
        ["code", "git.commit", "123", "456"],
    ]
    assert table.columns.tolist() == ["kind", "name", "a", "b"]


def test_a_resumed_run_is_what_it_became(log_run, place):
    a = log_run("a", params={"trainer.max_epochs": 5}, tags={"resumed.trainer.max_epochs": "9"})
    b = log_run("a", params={"trainer.max_epochs": 9})
    runs = runs_of(place, a, b)
    assert differences.differing([differences.facts(run) for run in runs], ["x", "y"]).empty
    assert differences.labels(runs) == [f"a {a[:8]}", f"a {b[:8]}"]


def test_metrics_side_by_side(log_run, place):
    a = log_run("a", metrics={"best/mae": 0.5, "val/mae": [0.9, 0.5], "system/cpu": 3.0})
    b = log_run("b", metrics={"best/mae": 0.4, "test/mae": 0.45, "train/loss": [1.0]})
    c = log_run("c", metrics={"val/mae": [0.8]})
    table = differences.metrics(runs_of(place, a, b), ["a", "b"])
    assert table["name"].tolist() == ["best/mae", "test/mae"]
    assert table.columns.tolist() == ["kind", "name", "a", "b", "b - a"]
    assert math.isclose(table["b - a"][0], -0.1) and math.isnan(table["a"][1]) and math.isnan(table["b - a"][1])
    unfinished = differences.metrics(runs_of(place, a, c), ["a", "c"])
    assert unfinished["name"].tolist() == ["best/mae", "val/mae"]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ((0.5, "best/mae", "a"), "0.5000"),
        ((-0.1, "best/mae", "b - a"), "-0.1000"),
        ((0.0, "best/mae", "b - a"), "+0.0000"),
        ((3.0, "best/epoch", "a"), "3"),
        ((3.0, "best/epoch", "b - a"), "+3"),
        ((math.nan, "best/mae", "a"), "-"),
        (("0.5", "optimizer.lr", "a"), "0.5"),
    ],
)
def test_a_cell(cell, shown):
    assert differences.as_text(*cell) == shown


@pytest.mark.slow
def test_curves_take_the_last_of_a_repeated_epoch(log_run, place):
    a = log_run("a", metrics={"val/loss": [3.0, 2.0], "train/loss": [4.0], "val/mae": [1.0], "best/loss": 2.0})
    log_run.client.log_metric(a, "val/loss", 1.5, step=1)
    table = differences.curves(log_run.client, runs_of(place, a)[0], ["loss"])
    assert sorted(table.to_numpy().tolist()) == [[0, "train/loss", 4.0], [0, "val/loss", 3.0], [1, "val/loss", 1.5]]


def test_marks_of_all(log_run, place):
    ids = [
        log_run(str(i), tags={"marks": caveats})
        for i, caveats in enumerate(("none", "phantom data", "phantom data, x"))
    ]
    assert differences.caveats(runs_of(place, *ids)) == ["phantom data", "x"]
