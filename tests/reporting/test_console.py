import pandas as pd
import pytest

from koa_lightning.metrics.comparison import compare
from koa_lightning.metrics.intervals import Interval, with_intervals
from koa_lightning.metrics.readers import agreement
from koa_lightning.metrics.subgroups import by_subgroup
from koa_lightning.reporting import console


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def test_numbers_as_papers_print_them():
    assert [console.short(x) for x in (0.8124, -0.05, 1.2, 0)] == [".812", "-.050", "1.200", ".000"]
    assert console.short(0.5, 2, "+") == "+.50"
    assert console.text(Interval(0.8124, 0.7, 0.9)) == ".812 (.700, .900)"
    assert console.text(Interval(0.8, None, None, "why")) == ".800 (no interval)"
    assert console.text(Interval(None, None, None, "why")) == "undefined"
    assert console.text(None) == ""
    assert [console._p(p) for p in (None, 0.0005, 0.02, 1)] == ["", "< .001", ".020", "1.000"]


def test_all_tables_fit_in_80_columns_and_nothing_is_cut(graded_table, capsys):
    table = graded_table(70)
    table["reader_1"] = table["grade"]
    table["site"] = ["Graz" if row < 20 else "Ulm" for row in range(len(table))]
    found = with_intervals(table, n_resamples=100, thresholds=[0.5, 1.5, 2.5, 3.5])
    groups = by_subgroup(table, ["side", "site"], n_resamples=100)
    readers = agreement(table, ["reader_1"], n_resamples=100, thresholds=[0.5, 1.5, 2.5, 3.5])
    others = {"loss": 0.5, "other": None}
    console.say(found, "val: 140 knees", others, groups=groups, agreement=readers, remarks=["a remark"])
    text = capsys.readouterr().out
    assert "…" not in text
    assert max(len(line) for line in text.splitlines() if line and line[0] in "┏┃│└") <= 80
    for word in (
        "tuned thresholds",
        "quadratic_kappa",
        "ece_classwise",
        "too small",
        "model_expected",
        "a remark",
        ".500",
    ):
        assert word in text
    for name in ("recall_3", "f1_macro", "f1_macro_expected", "f1_macro_tuned", "log_loss"):
        assert console.text(found[name]) in text, name


def test_each_note_is_said_once(graded_table, capsys):
    table = graded_table(70)
    found = with_intervals(table[table["grade"] != 4], n_resamples=100)
    console.say(found, "t", {}, groups=pd.DataFrame(), agreement=pd.DataFrame(), remarks=[])
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("f1_4, precision_4, recall_4, f1_4_expected and 5 more: no knee of true grade 4") == 1


def test_a_comparison_fits_and_warns_of_many(graded_table, capsys):
    first, second = graded_table(60), graded_table(60, seed=1, sharpness=3)
    names = {"A": "one.csv", "B": "other.csv"}
    console.say_comparison(compare(first, second, n_resamples=100), names, "120 knees")
    text = capsys.readouterr().out
    assert "…" not in text and "WARNING: 15 metrics are compared" in text
    assert max(map(len, text.splitlines())) <= 110
    assert max(len(line) for line in text.splitlines() if line and line[0] in "┏┃│└") <= 80
    assert "quadratic_kappa_expected" in text and "A: one.csv" in text
    one = compare(first, second, n_resamples=100, only=("rps",))
    console.say_comparison(one, names, "120 knees")
    assert "WARNING" not in capsys.readouterr().out
    few = first["grade"] < 2
    console.say_comparison(compare(first[few], second[few], n_resamples=50, only=("ap_oa",)), names, "t")
    assert "ap_oa: all knees are below grade 2" in capsys.readouterr().out
