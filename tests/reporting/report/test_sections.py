import dataclasses

import numpy as np
import pandas as pd
from PIL import Image

from koa_lightning.metrics import predictions
from koa_lightning.reporting import report_data
from koa_lightning.reporting.report import contents, explanations, limits, results, uncertainty
from koa_lightning.reporting.report import data as of_data
from koa_lightning.reporting.report.blocks import Absent, number, percent, with_interval


def words(section):
    return " ".join(block.words for block in section.blocks if block.kind in ("text", "absent"))


def tables(section):
    return [block for block in section.blocks if block.kind == "table"]


def other(found, **changes):
    return dataclasses.replace(found, **changes)


def test_numbers_in_cells():
    assert (number(0.12349), number(None), percent(0.125, 1), percent(None)) == ("0.123", "–", "12.5%", "–")  # noqa: RUF001
    assert with_interval({"value": 0.5, "low": 0.41, "high": 0.6}) == "0.500 (0.410 to 0.600)"
    assert with_interval({"value": 0.5, "low": None, "high": None}) == "0.500"
    assert with_interval({"value": None, "low": None, "high": None}) == with_interval(None) == "–"  # noqa: RUF001


def test_how_far_off_by_hand(full):
    [rows] = tables(results.confusion(full))
    known = full.known
    off = known["predicted"] - known["grade"].astype(int)
    assert [row[1] for row in rows.rows] == [str(int((off.abs() == d).sum())) for d in range(3)] + ["0"]
    assert rows.rows[1][3:] == [str(int((off == -1).sum())), str(int((off == 1).sum()))]
    assert rows.rows[0][2] == f"{(off == 0).mean():.1%}"


def test_an_audit_of_other_data_and_its_leakage_are_said_loudly(full):
    loud = [
        block.words for block in of_data.data(full, {"disjoint": ""}).blocks if getattr(block, "tone", "") == "loud"
    ]
    assert loud == [
        "Audit of chen2018 (46 knees, fingerprint aa): LEAKAGE.",
        "The audit saw 12 knees in val, the training 11: other data.",
    ]


def test_explanations_that_failed_are_said(full):
    section = explanations.explanations(full)
    assert "Failed: sanity. Do not read these maps as reasons." in words(section)
    [rows] = tables(section)
    assert [row[3] for row in rows.rows] == ["passed"] * 3 + ["failed"] + ["passed"] * 3
    assert "50% of the heat in the joint band (30% of the picture)" in rows.rows[5][2]
    assert any("explanations failed 1 test: sanity" in line for line in limits.limits(full))


def test_worst_mistakes_by_the_rule(full):
    section = explanations.failures(full)
    [rows] = tables(section)
    known = full.known
    wrong = known[known["predicted"] != known["grade"].astype(int)]
    distance = (wrong["expected_grade"] - wrong["grade"].astype(float)).abs()
    assert rows.rows[0][0] == wrong.loc[distance.idxmax(), "path"].rsplit("/", 1)[1]
    assert len(rows.rows) == min(12, len(wrong))
    assert isinstance(section.blocks[1], Absent)  # the files are nowhere


def test_pictures_of_the_worst_mistakes_where_the_files_are(full, tmp_path):
    moved = full.table.copy()
    moved["path"] = [str(tmp_path / path.rsplit("/", 1)[1]) for path in moved["path"]]
    for path in moved["path"][:100]:
        Image.fromarray(np.full((40, 30), 90, np.uint8)).save(path)
    section = explanations.failures(other(full, table=moved))
    [pictures] = [block for block in section.blocks if block.kind == "pictures"]
    assert all(address.startswith("data:image/jpeg;base64,") for address, _ in pictures.items)
    assert 0 < len(pictures.items) <= 12
    phantoms = moved.assign(path=[f"phantom://5/P{n:06d}L-{n % 5}" for n in range(len(moved))])
    section = explanations.failures(other(full, table=phantoms))
    assert [block.kind for block in section.blocks] == ["text", "pictures", "table"]


def test_no_failure_at_all(full):
    perfect = full.table.copy()
    perfect["predicted"] = perfect["grade"].astype(int)
    assert "asks for a second look" in words(explanations.failures(other(full, table=perfect)))


def test_one_grade_alone_has_no_curves(full):
    same = full.table.assign(grade=pd.array([2] * len(full.table), dtype="Int64"))
    assert "all knees have the same true grade" in words(results.roc(other(full, table=same)))


def test_a_grade_that_is_absent_is_named(full):
    some = full.table[full.table["grade"] != 4]
    assert "No curve of 4 severe: no such knee." in words(results.roc(other(full, table=some)))


def test_risk_at_a_coverage():
    assert uncertainty._risk_at([[0.5, 0.1], [0.75, 0.2], [1.0, 0.3]], 0.7) == 0.2
    assert uncertainty._risk_at([[0.5, 0.1]], 0.9) is None


def test_abstention_and_sets_say_what_they_do(full):
    assert "At the threshold 0.600, 80.0% of the knees are graded and 22.0% of these wrongly" in words(
        uncertainty.abstention(full)
    )
    assert "hold the true grade of 90% of the knees; they hold it for 91.7%" in words(uncertainty.conformal(full))
    assert "2 of 120 images (1.7%) look foreign" in words(uncertainty.inputs(full))
    left_out = other(full, parts={**full.parts, "abstention": {"left_out": "no knee"}})
    assert "No risk-coverage curve: no knee." in words(uncertainty.abstention(left_out))


def test_readers_beside_the_model(full):
    row = {"n_knees": 50, "n_patients": 25, "value": 0.8, "low": 0.7, "high": 0.9}
    pairs = [("truth", "reader_1"), ("reader_1", "reader_2"), ("reader_1", "model")]
    rows = [{"first": a, "second": b, "metric": "quadratic_kappa", **row} for a, b in pairs]
    read = other(full, parts={**full.parts, "readers": rows})
    [shown] = tables(results.readers(read))
    assert shown.rows[1][:4] == ["reader_1", "reader_2", "50", "0.800 (0.700 to 0.900)"]
    from koa_lightning.reporting.report import caveats as known

    assert known.phrases(read)["readers"] == "Quadratic kappa of reader_1 and reader_2: 0.800 (0.700 to 0.900)."


def test_subgroups_with_counts_and_a_word_on_small_ones(full):
    [rows] = tables(results.subgroups(full))
    assert [row[0] for row in rows.rows] == ["all knees", "side: L", "side: R", "site: Bonn <b>", "site: Ulm"]
    assert rows.rows[3][1:3] == ["40", "20"]
    assert "Site: Bonn <b> is too small to say anything: 20 patients" in rows.note


def test_an_ensemble_has_its_members(full, model):
    intervals = {"quadratic_kappa": {"value": 0.6, "low": 0.5, "high": 0.7}}
    ensemble = {
        "said": "2 members, none trained on any of the 120 knees",
        "calibrated": "not at all",
        "members": [{"name": name, "n_knees": 120, "intervals": intervals} for name in ("a", "b")],
    }
    about = {**full.about, "kind": "ensemble", "models": [model, {**model, "name": "b"}]}
    made = other(full, about=about, parts={**full.parts, "ensemble": ensemble})
    members, what = tables(of_data.members(made))
    assert [row[0] for row in members.rows] == ["a", "b", "ensemble"]
    assert members.rows[0][4] == "0.600 (0.500 to 0.700)"
    assert len(what.rows) == 2
    assert contents.subtitle(made).startswith("Ensemble of 2: study")
    card = dict(of_data.model_card(made, {"ensembling": "Averaged."}).blocks[0].rows)
    assert "Averaged." in card["Model"]


def test_limits_follow_from_the_run(full, bare):
    said = " ".join(limits.limits(full))
    assert "One source" in said and "Grade 0, 1, 2, 3, 4: fewer than 30 knees" in said
    assert "No audit" not in said
    data = {**full.about["data"], "part": "val", "n_trained_on": None}
    said = " ".join(limits.limits(other(full, about={**full.about, "data": data, "marks": ["phantom data"]})))
    assert said.startswith("The knees are synthetic")
    assert "which chose the epoch" in said and "its manifest is lost" in said
    said = " ".join(limits.limits(bare))
    assert "The model is unknown" in said and "not recalibrated" in said and "No audit was given" in said


def test_knees_that_were_trained_on_mark_the_report(full):
    data = {**full.about["data"], "n_trained_on": 7}
    assert other(full, about={**full.about, "data": data}).marks == ["measured on 7 knees that it was trained on"]


def test_columns_that_are_groups_are_found(made_up):
    rows = made_up.assign(age=np.arange(len(made_up)), fold=1, note=[str(n) for n in range(len(made_up))])
    assert report_data._columns_of_groups(predictions.known(rows)) == ["side", "site"]
