import dataclasses

from koa_lightning.reporting.report import contents
from koa_lightning.reporting.report import data as of_data


def test_an_audit_of_other_data_and_its_leakage_are_said_loudly(full):
    loud = [
        block.words for block in of_data.data(full, {"disjoint": ""}).blocks if getattr(block, "tone", "") == "loud"
    ]
    assert loud == [
        "Audit of chen2018 (46 knees, fingerprint aa): LEAKAGE.",
        "The audit saw 12 knees in val, training 11: the data differ.",
    ]


def test_an_ensemble_has_its_members(full, model, tables):
    intervals = {"quadratic_kappa": {"value": 0.6, "low": 0.5, "high": 0.7}}
    ensemble = {
        "said": "2 members, none trained on any of the 120 knees",
        "calibrated": "not at all",
        "members": [{"name": name, "n_knees": 120, "intervals": intervals} for name in ("a", "b")],
    }
    about = {**full.about, "kind": "ensemble", "models": [model, {**model, "name": "b"}]}
    made = dataclasses.replace(full, about=about, sections={**full.sections, "ensemble": ensemble})
    members, what = tables(of_data.members(made))
    assert [row[0] for row in members.rows] == ["a", "b", "ensemble"]
    assert members.rows[0][4] == "0.600 (0.500 to 0.700)"
    assert len(what.rows) == 2
    assert contents.subtitle(made).startswith("Ensemble of 2: study")
    card = dict(of_data.model_card(made, {"ensembling": "Averaged."}).blocks[0].rows)
    assert "Averaged." in card["Model"]
