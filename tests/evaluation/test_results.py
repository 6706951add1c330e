import json

import numpy as np
import pandas as pd
import pytest

from koa_lightning.checkpoint.fitted import LeftOut, Thresholds
from koa_lightning.config.compose import compose
from koa_lightning.config.metrics import chosen
from koa_lightning.errors import InputError
from koa_lightning.evaluation import results
from koa_lightning.evaluation.settings import Settings
from koa_lightning.metrics import thresholds
from koa_lightning.metrics.intervals import Interval, to_json, with_intervals

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def table(graded_table):
    rows = graded_table(80)
    rows["age"] = np.linspace(40, 80, len(rows))
    rows["reader_1"] = rows["grade"]
    return rows


def config(*overrides):
    return Settings.of(compose("eval", ["ckpt=x", "n_resamples=100", *overrides]))


def test_files_of_a_plain_evaluation(table, tmp_path):
    found = results.evaluate_table(config(), table, tmp_path)
    assert [file.name for file in found.files] == ["intervals.json"]
    assert json.loads(found.files[0].read_text()) == to_json(with_intervals(table, n_resamples=100))
    assert found.remarks == []


def test_subgroups_and_readers_are_written(table, tmp_path):
    asked = ("subgroups=[side,age]", "edges={age:[60]}", "readers=reader_1")
    found = results.evaluate_table(config(*asked), table, tmp_path)
    assert {file.name for file in found.files} == {
        "intervals.json", "subgroups.csv", "subgroups.json", "readers.csv", "readers.json",
    }  # fmt: skip
    groups = pd.read_csv(tmp_path / "subgroups.csv")
    assert groups["group"].unique().tolist() == ["all knees", "L", "R", "< 60", ">= 60"]
    rows = json.loads((tmp_path / "subgroups.json").read_text())
    assert [row["value"] for row in rows] == pytest.approx(groups["value"].tolist())
    assert all(isinstance(row["n_knees"], int) for row in rows)
    agreement = pd.read_csv(tmp_path / "readers.csv").set_index(["first", "second", "metric"])
    assert agreement.loc[("truth", "reader_1", "quadratic_kappa"), "value"] == 1


@pytest.mark.slow
def test_thresholds_of_validation_travel_to_the_test_split(graded_table, table, tmp_path):
    val = graded_table(80, seed=5, reference=5)
    val["patient"], val["path"] = "v" + val["patient"], "/val" + val["path"]
    (tmp_path / "val").mkdir()
    found = results.evaluate_table(config("split=val"), val, tmp_path / "val")
    file = tmp_path / "val" / "thresholds.json"
    assert file in found.files and str(file) in found.remarks[0]
    assert not [name for name in found.intervals if name.endswith("_tuned")]
    there = results.evaluate_table(config(f"thresholds='{file}'"), table, tmp_path)
    cuts = thresholds.tune(val)["thresholds"]
    assert there.intervals == with_intervals(table, n_resamples=100, thresholds=cuts)
    recorded = results.evaluate_table(config(), table, tmp_path, Thresholds.from_plain(thresholds.tune(val)))
    assert recorded.intervals == there.intervals
    own = results.evaluate_table(
        config("split=val"), val, tmp_path / "val", Thresholds.from_plain(thresholds.tune(val))
    )
    assert "tuned on the evaluated knees" in own.remarks[0]
    fewer = results.evaluate_table(config(), val.iloc[1:], tmp_path, Thresholds.from_plain(thresholds.tune(val)))
    assert "tuned on 80 of the evaluated patients" in fewer.remarks[0] and "accuracy_tuned" not in fewer.intervals
    assert own.intervals == found.intervals
    for override, why in (("calibrated=false", "for calibrated=true"), ("split=all", "may have been tuned on these")):
        apart = results.evaluate_table(config(override), table, tmp_path, Thresholds.from_plain(thresholds.tune(val)))
        assert why in apart.remarks[0] and "accuracy_tuned" not in apart.intervals
    assert "accuracy_tuned" not in results.evaluate_table(config(), table, tmp_path, LeftOut("few")).intervals
    assert "four rising numbers" in Thresholds.wrong({"thresholds": [1, 2]})


def test_what_an_earlier_evaluation_left_goes_and_what_is_named_stays(table, tmp_path):
    results.evaluate_table(config("subgroups=side", "readers=reader_1"), table, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "thresholds.json").write_text("[0.4, 1.4, 2.4, 3.4]")
    with pytest.raises(InputError, match="thresholds="):
        results.evaluate_table(config(f"thresholds='{tmp_path}/no.json'"), table, tmp_path)
    assert (tmp_path / "readers.csv").exists()
    found = results.evaluate_table(config(f"thresholds='{tmp_path}'"), table, tmp_path)
    assert "accuracy_tuned" in found.intervals
    assert {file.name for file in tmp_path.iterdir()} == {"intervals.json", "thresholds.json", "notes.txt"}


def test_without_patients_it_says_so(table, tmp_path):
    found = results.evaluate_table(config(), table.assign(patient=""), tmp_path)
    assert "no knee has a patient" in found.remarks[0]


def test_few_numbers_are_logged(table):
    found = results.Evaluation(with_intervals(table, n_resamples=100, thresholds=[0.5, 1.5, 2.5, 3.5]), [], [])
    logged = results.to_log(found)
    assert {"quadratic_kappa_low", "quadratic_kappa_high", "accuracy_low", "rps", "ap_ge3", "mae_tuned"} <= set(logged)
    assert not [name for name in logged if name.startswith(("recall_0", "precision_4", "f1_1"))]
    assert len(logged) == 17 + 3 + 2 * len(chosen("logged_ends"))
    assert logged["mae_low"] <= logged["mae"] <= logged["mae_high"]
    undefined = results.Evaluation({"auroc_oa": Interval(None, None, None, "why")}, [], [])
    assert results.to_log(undefined) == {}


def test_what_cannot_be_measured_stops_before_anything_is_graded(table):
    results.check(config("subgroups=[side]", "readers=[reader_1]"), table)
    with pytest.raises(InputError, match="subgroups=sit: no such column"):
        results.check(config("subgroups=sit"), table)
    with pytest.raises(InputError, match="readers=reader_3: no such column"):
        results.check(config("readers=[reader_1,reader_3]"), table)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("thresholds=none.json", "thresholds=none.json: not a readable JSON file"),
        ("audit=none", "audit=none: no audit.json"),
    ],
)
def test_files_that_are_asked_for_are_looked_at_before_anything_is_graded(override, line, table):
    with pytest.raises(InputError, match=f"^{line}"):
        results.check(config(override), table)


def test_thresholds_tuned_on_these_knees_are_refused_before_anything_is_graded(table, tmp_path):
    file = tmp_path / "thresholds.json"
    file.write_text(json.dumps(thresholds.tune(table)))
    with pytest.raises(InputError, match="tuned on the evaluated knees"):
        results.check(config(f"thresholds='{file}'"), table)
    unknown = table.assign(grade=-1)  # as a manifest has it; such knees tune nothing
    results.check(config(f"thresholds='{file}'"), unknown)


def test_what_is_no_better_than_one_grade_for_all_is_said(graded_table, table, tmp_path):
    constant = graded_table(60).assign(p0=0.6, p1=0.1, p2=0.1, p3=0.1, p4=0.1)
    found = results.evaluate_table(config(), constant, tmp_path)
    share = constant["grade"].value_counts(normalize=True)
    assert (
        f"no better than always grade {share.idxmax()} (accuracy {share.max():.3f})".replace("0.", ".") in found.remarks
    )
    found = results.evaluate_table(config(), graded_table(60), tmp_path)
    assert not [line for line in found.remarks if "no better" in line]
