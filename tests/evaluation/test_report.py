"""Reports from the command line and at the end of eval; what is in them is tested under tests/reports/report."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from koa_lightning.checkpoint import reading as checkpoint
from koa_lightning.config.compose import compose, validate
from koa_lightning.errors import InputError
from koa_lightning.evaluation import report
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.metrics import predictions as table
from koa_lightning.reporting import provenance, report_data
from koa_lightning.reporting.report import page
from koa_lightning.training import cross_validation

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def quick(monkeypatch):
    """Figures are drawn, but written as next to nothing: that takes most of the time."""

    def save(figure, folder, name):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.svg").write_text("<svg/>")
        return b"<svg/>"

    monkeypatch.setattr(page, "save_both", save)


@pytest.fixture
def predictions(tmp_path):
    p = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    rows = pd.DataFrame(p, columns=table.PROBABILITIES).assign(grade=np.arange(40) % 5, patient=np.arange(40) // 2)
    rows.to_csv(tmp_path / "theirs.csv", index=False)
    return tmp_path / "theirs.csv"


@pytest.mark.slow
def test_at_the_end_of_eval_and_in_the_run_that_trained(trained, tmp_path, quick, capsys):
    out = tmp_path / "out"
    evaluate(compose("eval", [f"ckpt='{trained.best}'", f"out='{out}'", "explain=none", "n_resamples=100"]))
    assert f"report: {out}/report.html" in capsys.readouterr().out
    about = json.loads((out / "evaluation.json").read_text())
    assert about["kind"] == "checkpoint"
    assert about["data"]["n_trained_on"] == 0
    assert about["data"]["n_knees"] == len(pd.read_csv(out / "predictions.csv"))
    assert about["models"][0]["training"]["epochs"] == 3
    manifest = pd.read_parquet(trained.out / "manifest.parquet")
    own = manifest[manifest["split"] == "train"]
    assert about["models"][0]["training"]["parts"]["train"]["n_patients"] == own["patient"].nunique()
    assert str(trained.place) not in json.dumps(about["models"][0]["training"])
    content = json.loads((out / "report.json").read_text())
    assert content["about"]["marks"] == ["phantom data", "no pretrained weights"]
    client = MlflowClient(f"sqlite:///{trained.place}/mlruns/mlflow.db")
    files = {item.path for item in client.list_artifacts(trained.result["run_id"], "eval/test")}
    assert {f"eval/test/{name}" for name in ("report.html", "report.json", "figures", "evaluation.json")} <= files
    again = report.report(compose("report", [f"ckpt='{out}'", f"out='{tmp_path}/again'"]))
    assert again["accuracy"] == content["accuracy"]["value"]
    later = json.loads((tmp_path / "again/report.json").read_text())
    assert {**later["about"], "time": ""} == {**content["about"], "time": ""}


def test_knees_that_were_trained_on_are_said(trained, tmp_path):
    options = [f"ckpt='{trained.best}'", f"out='{tmp_path}/o'", "explain=none", "tracking=none", "report=false"]
    evaluate(compose("eval", [*options, "split=train", "n_resamples=100"]))
    found = report_data.read(tmp_path / "o")
    assert found.caveats[-1] == f"evaluated on {len(found.table)} knees that the model was trained on"


def test_of_a_table_from_anywhere(predictions, alone, quick, launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = launch("report", f"table={predictions}", "out=made", "n_resamples=100")
    assert ended.code == 0, ended.err
    text = Path("made/report.html").read_text()
    assert "the knees of theirs.csv" in text
    assert "the model behind them is unknown" in text
    assert str(tmp_path) not in text


@pytest.mark.slow
def test_of_a_cross_validation(tmp_path, alone, quick, trained):
    """Its folder as `cross_validate` leaves it: two folds, here of one checkpoint."""
    rows = pd.read_parquet(_evaluated(trained, tmp_path) / "predictions.parquet")
    tables = [rows.iloc[::2], rows.iloc[1::2]]
    folder = tmp_path / "cv-1"
    for fold in range(2):
        shutil.copytree(trained.out, folder / f"fold_{fold}")
    cross_validation.pool(tables).to_parquet(folder / "predictions.parquet")
    own = dict.fromkeys(["accuracy", "balanced_accuracy", "quadratic_kappa", "mae", "ece"], 0.5)
    own |= {"n_knees": 6, "auroc_oa": None}
    metrics = {"folds": [own, own], "between_folds": cross_validation.between([own, own])}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    record = {"settings": {"data.folds": 2}, "run_id": trained.result["run_id"]}
    record["uri"] = f"sqlite:///{trained.place}/mlruns/mlflow.db"
    (folder / "cross_validation.json").write_text(json.dumps(record))
    result = report.report(compose("report", [f"ckpt='{folder}'", f"out='{tmp_path}/made'"]))
    assert result["accuracy"] == pytest.approx((rows["grade"] == rows["predicted"]).mean())
    text = (tmp_path / "made/report.html").read_text()
    assert "every knee of phantom outside its test split, out of fold" in text
    assert "Cross-validation of 2 folds" in text
    assert "sd between folds" in text
    client = MlflowClient(record["uri"])
    assert "oof/report.html" in {item.path for item in client.list_artifacts(record["run_id"], "oof")}


def _evaluated(trained, tmp_path):
    options = [f"ckpt='{trained.best}'", "explain=none", "tracking=none", "report=false", "n_resamples=100"]
    evaluate(compose("eval", [*options, "split=val", f"out='{tmp_path}/e'"]))
    return tmp_path / "e"


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "ckpt: must be given; type ckpt=FOLDER of eval or cross_validate, ckpt=FILE, or table=FILE"),
        (["ckpt=empty"], "ckpt=empty: the folder has no predictions; name eval's folder, or name a checkpoint file"),
        (["ckpt=begun"], "finish the cross-validation"),
        (["ckpt=nowhere.ckpt"], "ckpt=nowhere.ckpt: there is no such file"),
        (["ckpt=made", "audit=empty"], "audit=empty: no audit.json of koa_lightning.audit"),
        (["table=theirs.csv", "report=maybe"], "report=maybe: must be one of true, false"),
    ],
)
def test_bad_input_is_one_line(arguments, line, predictions, place, launch):
    Path("empty").mkdir()
    Path("begun").mkdir()
    Path("begun/cross_validation.json").write_text("{}")
    Path("made").mkdir()
    shutil.copy(predictions, "made/predictions.csv")
    ended = launch("report", *arguments)
    assert ended.code == 2
    assert len(ended.err) == 1 and line in ended.err[0]
    assert not list(Path("outputs").glob("*"))


@pytest.fixture
def made(graded_table, tmp_path):
    """A folder of predictions, with the subgroups that an evaluation made of another column."""
    (tmp_path / "made").mkdir()
    rows = graded_table(60).assign(age=np.arange(120), reader_1=lambda rows: rows["grade"])
    rows.to_csv(tmp_path / "made/predictions.csv", index=False)
    row = {"column": "side", "group": "L", "n_knees": 1, "n_patients": 1, "metric": "accuracy", "value": 0.5}
    (tmp_path / "made/subgroups.json").write_text(json.dumps([{**row, "low": None, "high": None, "note": ""}]))
    return tmp_path / "made"


def test_subgroups_and_readers_of_what_was_evaluated(made, tmp_path, quick):
    def about(*typed):
        report.report(compose("report", [f"ckpt='{made}'", f"out='{tmp_path}/out'", *typed]))
        return json.loads((tmp_path / "out/report.json").read_text())["about"]

    def groups(*typed):
        return [row["group"] for row in about(*typed)["subgroups"] if row["metric"] == "accuracy"]

    assert groups() == ["L"]
    assert groups("subgroups=side") == ["all knees", "L", "R"]
    assert groups("subgroups=[age]", "edges={age:[60]}") == ["all knees", "< 60", ">= 60"]
    pairs = {(row["first"], row["second"]): row["value"] for row in about("readers=reader_1")["readers"]}
    assert pairs["truth", "reader_1"] == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("subgroups=sid", "subgroups=sid: no such column; did you mean 'side'?"),
        ("edges={age:[60]}", "edges.age: name it in subgroups too"),
        ("readers=reader_2", "readers=reader_2: no such column"),
        (
            "thresholds=x.json",
            "thresholds=x.json: takes effect in eval only, and .*/made is already evaluated; type python",
        ),
        ("n_resamples=100", "ckpt=FILE n_resamples=100, or here table=.*/made instead of ckpt"),
    ],
)
def test_what_a_report_cannot_measure_is_one_line(typed, line, made, tmp_path):
    with pytest.raises(InputError, match=line):
        report.report(compose("report", [f"ckpt='{made}'", f"out='{tmp_path}/out'", typed]))
    assert not (tmp_path / "out").exists()


def test_no_password_is_published(made, trained, monkeypatch):
    address = "tracking.uri=https://anna:s3cret@host"
    monkeypatch.setattr(provenance, "_module", lambda: "koa_lightning.eval")
    monkeypatch.setattr("sys.argv", ["eval", address])
    about = report_data.read(made).about
    assert about["command"] == "python -m koa_lightning.eval tracking.uri=https://host"
    model = provenance.of_model(checkpoint.read(trained.best), "x")
    with_password = {**model, "config": {**model["config"], "tracking": {"uri": address}}}
    old = {**about, "command": address, "models": [with_password]}
    (made / "evaluation.json").write_text(json.dumps(old))
    assert "s3cret" not in json.dumps(report_data.read(made).about)


def test_no_password_of_an_old_checkpoint_is_published(trained, tmp_path):
    read = checkpoint.read(trained.best)
    tracking = {"uri": "https://anna:s3cret@host"}
    record = dataclasses.replace(read.record, config={**read.record.config, "tracking": tracking})
    old = dataclasses.replace(read, record=record)
    assert provenance.of_model(old, "x")["config"]["tracking"] == {"uri": "https://host"}


def test_an_audit_that_is_damaged(tmp_path):
    (tmp_path / "audit.json").write_text('{"data": "x"}')
    with pytest.raises(InputError, match=r"audit.json: has no entry fingerprint; audit=FOLDER must be written by"):
        report_data.read_audit(tmp_path)


def test_how_many_knees_a_table_has():
    rows = pd.DataFrame({"grade": [0, 4, -1, None], "patient": ["a", "a", "b", ""], "side": ["L", "R", "", "L"]})
    assert provenance.of_knees(rows) == {
        "n_knees": 4, "n_patients": 3, "grades": [1, 0, 0, 0, 1], "n_unknown": 2,
        "sides": {"L": 2, "R": 1, "unknown": 1},
    }  # fmt: skip


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("kind", "names"),
    [("latex", ["results.tex", "methods.tex"]), ("markdown", ["results.md", "methods.md"]),
     ("csv", ["results.csv", "methods.txt"])],
)  # fmt: skip
def test_a_table_and_a_paragraph_in_place_of_the_page(kind, names, predictions, tmp_path, quick, capsys):
    out = tmp_path / kind
    typed = [f"table='{predictions}'", f"out='{out}'", "n_resamples=100", f"format={kind}"]
    report.report(compose("report", typed))
    assert all((out / name).is_file() for name in names)
    assert not (out / "report.html").exists()
    assert f"written: {out}/{names[0]}, {out}/{names[1]}" in capsys.readouterr().out
    again = tmp_path / "again"
    report.report(compose("report", [f"ckpt='{out}'", f"out='{again}'", f"format={kind}"]))
    assert (again / names[0]).read_bytes() == (out / names[0]).read_bytes()


def test_an_unknown_format_is_one_line():
    with pytest.raises(InputError, match="format=word: must be one of html, latex, markdown, csv"):
        validate(compose("report", ["ckpt=x", "format=word"]), "report")
