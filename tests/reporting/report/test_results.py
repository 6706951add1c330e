import dataclasses

import pandas as pd

from koa_lightning.reporting.report import results


def test_how_far_off_by_hand(full, tables):
    [rows] = tables(results.confusion(full))
    known = full.labelled
    off = known["predicted"] - known["grade"].astype(int)
    assert [row[1] for row in rows.rows] == [str(int((off.abs() == d).sum())) for d in range(3)] + ["0"]
    assert rows.rows[1][3:] == [str(int((off == -1).sum())), str(int((off == 1).sum()))]
    assert rows.rows[0][2] == f"{(off == 0).mean():.1%}"


def test_one_grade_alone_has_no_curves(full, words):
    same = full.table.assign(grade=pd.array([2] * len(full.table), dtype="Int64"))
    assert "all knees have the same true grade" in words(results.roc(dataclasses.replace(full, table=same)))


def test_a_grade_that_is_absent_is_named(full, words):
    some = full.table[full.table["grade"] != 4]
    assert "No curve for 4 severe: no knee has that grade." in words(results.roc(dataclasses.replace(full, table=some)))


def test_readers_beside_the_model(full, tables):
    row = {"n_knees": 50, "n_patients": 25, "value": 0.8, "low": 0.7, "high": 0.9}
    pairs = [("truth", "reader_1"), ("reader_1", "reader_2"), ("reader_1", "model")]
    rows = [{"first": a, "second": b, "metric": "quadratic_kappa", **row} for a, b in pairs]
    read = dataclasses.replace(full, sections={**full.sections, "readers": rows})
    [shown] = tables(results.readers(read))
    assert shown.rows[1][:4] == ["reader_1", "reader_2", "50", "0.800 (0.700 to 0.900)"]
    from koa_lightning.reporting.report import caveats as known

    assert known.phrases(read)["readers"] == "Quadratic kappa of reader_1 and reader_2: 0.800 (0.700 to 0.900)."


def test_subgroups_with_counts_and_a_word_on_small_ones(full, tables):
    [rows] = tables(results.subgroups(full))
    assert [row[0] for row in rows.rows] == ["all knees", "side: L", "side: R", "site: Bonn <b>", "site: Ulm"]
    assert rows.rows[3][1:3] == ["40", "20"]
    assert "Site: Bonn <b> is too small to evaluate: 20 patients" in rows.note
