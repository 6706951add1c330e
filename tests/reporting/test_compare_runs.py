from pathlib import Path

import pandas as pd
import pytest

from koa_lightning.reporting import compare_runs


@pytest.fixture
def two(log_run):
    curves = {"val/loss": [2.0, 1.0], "train/loss": [2.0, 1.5], "val/quadratic_kappa": [0.1, 0.6]}
    a = log_run(
        "a",
        params={"optimizer.lr": 0.1, "seed": 1},
        metrics={**curves, "best/mae": 0.5},
        tags={"marks": "phantom data"},
    )
    b = log_run("b", params={"optimizer.lr": 0.2, "seed": 1}, metrics={**curves, "best/mae": 0.4})
    return a, b


def test_two_runs(launch, two, place):
    ended = launch("compare", "a", two[1], "out=cmp")
    assert (ended.code, ended.err) == (0, [])
    text = "\n".join(ended.out)
    assert "optimizer.lr" in text and "seed" not in text and "-0.1000" in text
    assert "phantom data" in text and "research use only, not a medical device" in text
    table = pd.read_csv("cmp/compare.csv", dtype=str)
    assert table.to_numpy(na_value="").tolist() == [
        ["run", "id", *two, ""],
        ["config", "optimizer.lr", "0.1", "0.2", ""],
        ["data", "marks", "phantom data", "-", ""],
        ["metric", "best/mae", "0.5", "0.4", "-0.09999999999999998"],
    ]
    assert (place / "cmp/curves.png").read_bytes().startswith(b"\x89PNG")
    assert ended.out[-1] == f"written: {place}/cmp/compare.csv, {place}/cmp/curves.png"


@pytest.mark.parametrize("n", [2, 3, 4])
def test_the_metrics_fit_80_columns(n, launch, log_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = ["balanced_accuracy", "balanced_accuracy_expected", "quadratic_kappa_median", "epoch"]
    for i in range(n):
        metrics = {f"test/{name}": [0.25 + i] for name in names}
        log_run(f"resnet18-ce lr={i} chen2018 224px 10ep", params={"optimizer.lr": i}, metrics=metrics)
    ended = launch("compare", "search=metrics.`test/epoch` >= 0", "out=cmp")
    assert ended.code == 0, ended.err
    table = [line for line in ended.out if line.startswith("│")]
    assert all(
        len(line) <= 80 and line.split()[1] in ("config", "test/balanced_accuracy", "test/epoch") for line in table
    )
    assert len(table) == 3  # nothing is folded
    assert any("B - A" in line for line in ended.out) is (n == 2)
    assert "compare.csv also has the metrics of the median and the expected grade" in ended.out
    assert {f"test/{name}" for name in names} <= set(pd.read_csv("cmp/compare.csv")["name"])


def test_the_best_is_bold_where_there_is_one():
    names = ["test/accuracy", "test/brier", "test/mae_low", "best/epoch", "trust_test/set_coverage"]
    metrics = pd.DataFrame({"name": names, "a": [0.5] * 5, "b": [0.75] * 5})
    shown = compare_runs._table(metrics, ["a", "b"], ["A", "B"], best=True)
    bold = [[cell.startswith("[bold]") for cell in column.cells] for column in shown.columns[1:]]
    assert bold == [[False, True, True, False, False], [True, False, False, False, False]]


def test_the_same_settings_twice_and_no_curves(launch, log_run):
    for name in "ab":
        log_run(name, params={"seed": 1})
    ended = launch("compare", "a", "b", "out=cmp")
    assert ended.code == 0
    assert "no differences in config, data, code or machine" in ended.out
    assert ended.out[-1].endswith("compare.csv")


def test_many_runs_have_a_line_each(launch, log_run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    for i in range(6):
        log_run(f"job lr={i}", params={"optimizer.lr": i, "seed": 3}, metrics={"best/mae": i / 10, "best/f1_0": 0.1})
    ended = launch("compare", "search=metrics.`best/mae` >= 0", "out=cmp")
    assert (ended.code, ended.err) == (0, [])
    lines = [line for line in ended.out if "job lr=" in line]
    assert len(lines) == 6 and "0.5000" in lines[5] and "f1_0" not in "\n".join(ended.out)
    assert "best/f1_0" in Path("cmp/compare.csv").read_text()


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ([], "error: no run is named; type python -m koa_lightning.compare RUN RUN"),
        (["a"], "error: only one run (a); name two or more"),
        (["a", "a"], "error: only one run (a); name two or more"),
        (["a", "nobody"], "error: run=nobody: no run of this id or name"),
        (["runs=a"], "error: runs=a: must be a list"),
        (["a", "runs=[b]"], "error: a: runs=[...] lists runs too"),
        (["search=nonsense"], "error: search=nonsense: "),
        (["a", "b", "ouut=x"], "error: ouut: no such key in the configuration; did you mean 'out'?"),
        (["a", "b", "tracking.uri=http://127.0.0.1:9"], "error: tracking.uri=http://127.0.0.1:9: the MLflow server"),
    ],
)
def test_bad_input_is_one_line(arguments, start, launch, two, place):
    ended = launch("compare", *arguments)
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start)
    assert not (place / "outputs").exists() or not list((place / "outputs").iterdir())
