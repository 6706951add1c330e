import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from koa_lightning.checkpoint import reading as checkpoint
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.evaluation.results import mean_loss, table_metrics
from koa_lightning.losses.cross_entropy import CrossEntropy
from koa_lightning.metrics import predictions as table
from koa_lightning.reporting import report_data
from koa_lightning.training.run import train

pytestmark = pytest.mark.usefixtures("blank_figures")

COLUMNS = [
    "path", "patient", "side", "grade", "predicted", "expected_grade", "median_grade",
    "p0", "p1", "p2", "p3", "p4", "z0", "z1", "z2", "z3", "z4",
]  # fmt: skip


@pytest.fixture
def compute(trained, tmp_path):
    """Evaluate the trained run; returns the result and the folder."""

    def run(*overrides, ckpt=trained.best):
        cfg = compose("eval", [f"ckpt='{ckpt}'", f"out='{tmp_path}/out'", "explain=none", "report=false", *overrides])
        return evaluate(cfg), tmp_path / "out"

    return run


@pytest.fixture
def client(trained):
    return MlflowClient(f"sqlite:///{trained.place}/mlruns/mlflow.db")


def newest(client):
    experiment = client.get_experiment_by_name("koa-lightning")
    return client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])[0]


def altered(trained, tmp_path, change):
    content = torch.load(trained.best, weights_only=True)
    change(content["koa_lightning"])
    torch.save(content, tmp_path / "altered.ckpt")
    return tmp_path / "altered.ckpt"


def test_the_same_numbers_as_the_validation_that_chose_the_checkpoint(trained, compute):
    result, _ = compute("split=val", "tracking=none")
    chosen = {name.removeprefix("val/"): v for name, v in trained.result.items() if name.startswith("val/")}
    assert len(chosen) == 33
    for name, value in chosen.items():
        assert result[name] == pytest.approx(value, abs=1e-5), name


def test_the_same_logits_whatever_the_batch(trained, compute):
    _, folder = compute("split=val", "tracking=none")
    one = pd.read_parquet(folder / "predictions.parquet")
    _, folder = compute("split=val", "tracking=none", "batch_size=1")
    other = pd.read_parquet(folder / "predictions.parquet")
    np.testing.assert_allclose(one[table.LOGITS], other[table.LOGITS], atol=1e-5)


def test_the_predictions_table(compute):
    _, folder = compute("tracking=none")
    parquet, csv = pd.read_parquet(folder / "predictions.parquet"), pd.read_csv(folder / "predictions.csv")
    assert list(parquet.columns) == list(csv.columns) == COLUMNS
    assert csv["path"].tolist() == parquet["path"].tolist()
    np.testing.assert_allclose(csv[table.PROBABILITIES].sum(axis=1), 1, atol=1e-5)
    assert (csv["predicted"] == csv[table.PROBABILITIES].to_numpy().argmax(1)).all()
    assert set(csv["side"]) <= {"L", "R"}


def test_metrics_json(trained, compute):
    result, folder = compute("tracking=none")
    metrics = json.loads((folder / "metrics.json").read_text())
    names = {name.removeprefix("val/") for name in trained.result if name.startswith("val/")}
    assert set(metrics) == names | {"n_knees", "n_patients"}
    predictions = pd.read_csv(folder / "predictions.csv")
    assert metrics["n_knees"] == len(predictions)
    assert metrics["n_patients"] == predictions["patient"].nunique()
    assert metrics["accuracy"] == pytest.approx((predictions["grade"] == predictions["predicted"]).mean())
    assert result == {**metrics, "out": str(folder)}


def test_intervals_beside_the_metrics_and_of_the_same_values(compute):
    result, folder = compute("tracking=none", "n_resamples=200")
    intervals = json.loads((folder / "intervals.json").read_text())
    own = set(result) - {"loss", "n_knees", "n_patients", "out"}
    assert own <= set(intervals)
    for name in own:
        if intervals[name]["value"] is not None:  # F1 of a grade that is not in the truth is 0 in the other
            assert intervals[name]["value"] == pytest.approx(result[name], abs=1e-5), name
        assert intervals[name]["value"] is not None or intervals[name]["note"]


@pytest.mark.slow
def test_thresholds_of_validation_subgroups_and_readers(trained, compute, launch, tmp_path):
    _, folder = compute("split=val", "tracking=none", "n_resamples=200", "subgroups=side")
    assert {"L", "R"} < set(pd.read_csv(folder / "subgroups.csv")["group"])
    (folder / "thresholds.json").rename(tmp_path / "tuned.json")
    _, folder = compute("tracking=none", f"thresholds={tmp_path}/tuned.json", "n_resamples=200")
    assert "accuracy_tuned" in json.loads((folder / "intervals.json").read_text())
    for asked in ("subgroups=[sit]", "readers=[reader_1]", "edges={side:[1]}"):
        ended = launch("eval", f"ckpt={trained.best}", f"out={tmp_path}/bad", "tracking=none", "report=false", asked)
        assert (ended.code, len(ended.err)) == (2, 1), ended.err
        assert not (tmp_path / "bad").exists()


def test_a_table_from_elsewhere_is_measured_without_its_model(graded_table, launch, place):
    rows = graded_table(50)
    rows["reader_1"] = rows["grade"]
    rows.to_csv("theirs.csv", index=False)
    ended = launch(
        "eval",
        "table=theirs.csv",
        "out=made",
        "n_resamples=100",
        "report=false",
        "readers=[reader_1]",
        "subgroups=[side]",
    )
    assert ended.code == 0, ended.err
    assert "theirs.csv: 100 knees of 50 patients" in "\n".join(ended.out)
    made = {file.name for file in Path("made").iterdir()}
    assert {"metrics.json", "intervals.json", "predictions.csv", "readers.csv", "subgroups.json"} <= made
    metrics = json.loads(Path("made/metrics.json").read_text())
    assert metrics["accuracy"] == pytest.approx((rows["grade"] == rows["predicted"]).mean())
    logits = np.log(rows[table.PROBABILITIES].to_numpy(dtype=float)) + 3
    rows.assign(**dict(zip(table.PROBABILITIES, logits.T, strict=True))).to_csv("logits.csv", index=False)
    again = launch("eval", "table=logits.csv", "logits=true", "out=again", "n_resamples=100", "report=false")
    assert again.code == 0
    assert json.loads(Path("again/metrics.json").read_text())["accuracy"] == metrics["accuracy"]


@pytest.mark.slow
def test_a_folder_holds_the_results_of_one_evaluation(graded_table, place):
    graded_table(50).assign(reader_1=1).to_csv("a.csv", index=False)
    graded_table(50, seed=1, sharpness=0.1).drop(columns=["side"]).to_csv("b.csv", index=False)
    options = ["out=made", "n_resamples=100", "report=false"]
    evaluate(compose("eval", ["table=a.csv", "readers=[reader_1]", "subgroups=[side]", *options]))
    Path("made/explanations.part.json").write_text("{}")
    Path("made/explanations.json").write_text("{}")
    result = evaluate(compose("eval", ["table=b.csv", *options]))
    left = {file.name for file in Path("made").iterdir()}
    assert not {"readers.csv", "readers.json", "subgroups.json", "explanations.json"} & left
    assert "explanations.part.json" in left
    found = report_data.read(Path("made"))
    assert found.metrics["accuracy"]["value"] == pytest.approx(result["accuracy"])
    assert (found.groups, "readers" in found.sections, "explanations" in found.sections) == ([], False, False)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["table=logits.csv"], "look like logits: if they are, type logits=true"),
        (["table=no.csv"], "table=no.csv: there is no such file"),
        (["table=logits.csv", "ckpt=x.ckpt"], "ckpt and table are mutually exclusive"),
        (["ckpt=x.ckpt", "logits=true"], "logits=true: applies only to a table"),
        ([], "ckpt: must be given"),
    ],
)
def test_bad_tables_are_one_line(arguments, line, graded_table, launch, place):
    rows = graded_table(20)
    rows.assign(p0=-3.0, p1=4.0).to_csv("logits.csv", index=False)
    ended = launch("eval", *arguments)
    assert ended.code == 2
    assert len(ended.err) == 1 and line in ended.err[0]


def test_no_patient_of_the_test_split_was_trained_on(trained, compute):
    _, folder = compute("tracking=none")
    tested = set(pd.read_csv(folder / "predictions.csv")["patient"].astype(str))
    assert not tested & set(pd.read_parquet(trained.out / "manifest.parquet")["patient"])


def test_it_is_logged_to_the_run_that_trained_it_which_stays_as_it_was(trained, compute, client):
    run_id = trained.result["run_id"]
    before = client.get_run(run_id)
    result, _ = compute("explain=gradcam", "explain.n_worst=0")
    after = client.get_run(run_id)
    assert after.data.metrics["test/quadratic_kappa"] == result["quadratic_kappa"]
    assert after.data.metrics["test/loss"] == pytest.approx(result["loss"])
    assert after.data.metrics["test/accuracy_low"] <= result["accuracy"] <= after.data.metrics["test/accuracy_high"]
    assert after.data.metrics["test/rps"] > 0
    [row] = client.get_metric_history(run_id, "test/mae")
    assert row.step == trained.result["best_epoch"]
    files = {item.path for item in client.list_artifacts(run_id, "eval/test")}
    assert {path.removeprefix("eval/test/") for path in files} == {
        "predictions.csv", "predictions.parquet", "metrics.json", "intervals.json", "confusion_matrix.png",
        "gradcam.png", "evaluation.json",
        "panel_by_grade.png", "panel_by_mistake.png", "panel_most_certain.png", "panel_least_certain.png",
        "calibration.json", "conformal.json", "abstention.json", "inputs.json", "reliability.png", "risk_coverage.png",
    }  # fmt: skip
    for field in ("run_name", "status", "start_time", "end_time"):
        assert getattr(after.info, field) == getattr(before.info, field)
    assert after.data.params == before.data.params
    assert after.data.tags == before.data.tags


@pytest.mark.sample(1)
@pytest.mark.parametrize("overrides", [["tta=flip"], ["split=train"], ["split=all"], ["data=phantom"]])
def test_what_is_measured_otherwise_goes_to_a_run_of_its_own(overrides, trained, compute, client):
    result, _ = compute(*overrides, "data.source.n_patients=20" if overrides == ["data=phantom"] else "quiet=true")
    run = newest(client)
    assert run.info.run_id != trained.result["run_id"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["evaluates"] == trained.result["run_id"]
    assert run.data.tags["marks"] == "phantom data, no pretrained weights"
    split = "train" if overrides == ["split=train"] else "test"
    assert run.data.metrics[f"{split}/accuracy"] == result["accuracy"]


@pytest.mark.slow
def test_from_another_folder_the_run_is_found_where_it_was(compute, client, tmp_path):
    n_runs = len(client.search_runs([newest(client).info.experiment_id]))
    compute()
    assert not (tmp_path / "mlruns").exists()
    assert len(client.search_runs([newest(client).info.experiment_id])) == n_runs


@pytest.mark.slow
def test_where_its_store_is_not_there_a_new_run_is_begun_and_said(trained, place, compute, tmp_path, capsys):
    def move(record):
        record["tracking"]["uri"] = "sqlite:////no/where/mlflow.db"

    compute(ckpt=altered(trained, tmp_path, move))
    assert f"the run that trained this, {trained.result['run_id']}, is not in sqlite:///" in capsys.readouterr().err
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    assert newest(client).data.tags["evaluates"] == trained.result["run_id"]
    assert not Path("/no/where").exists()


def test_tracking_none_logs_nothing(trained, compute, client):
    before = client.get_run(trained.result["run_id"]).data.metrics
    compute("tracking=none", "split=val")
    assert client.get_run(trained.result["run_id"]).data.metrics == before


@pytest.mark.slow
def test_by_its_run(trained, compute, monkeypatch):
    monkeypatch.chdir(trained.place)
    run_id = trained.result["run_id"]
    by_path, _ = compute("tracking=none")
    by_run, _ = compute("tracking=none", ckpt=f"runs:/{run_id}")
    by_file, _ = compute("tracking=none", ckpt=f"runs:/{run_id}/checkpoints/best.ckpt")
    assert by_run == by_file == by_path


def test_flip_averages_the_logits_of_both_views(trained, compute):
    _, folder = compute("tracking=none", "split=val")
    one = pd.read_parquet(folder / "predictions.parquet")[table.LOGITS].to_numpy()
    _, folder = compute("tracking=none", "split=val", "tta=flip")
    both = pd.read_parquet(folder / "predictions.parquet")[table.LOGITS].to_numpy()
    assert np.abs(one - both).max() > 1e-4
    net = checkpoint.read(trained.best).network()
    assert net.training is False


@pytest.mark.slow
def test_other_data_without_that_of_the_training(trained, place, compute, knees):
    """From a folder in which nothing of the training is left, not even its store."""
    shutil.copy(trained.best, "model.ckpt")
    result, folder = compute("data=folder", f"data.root='{knees}'", "split=all", ckpt="model.ckpt")
    assert result["n_knees"] == 80
    assert result["n_patients"] == 40
    predictions = pd.read_csv(folder / "predictions.csv")
    assert predictions["path"].str.startswith(str(knees)).all()
    assert predictions["grade"].tolist() == [int(Path(path).parent.name) for path in predictions["path"]]
    split, _ = compute("data=folder", f"data.root='{knees}'", "tracking=none", ckpt="model.ckpt")
    assert 0 < split["n_patients"] < 40


@pytest.mark.slow
def test_a_split_of_the_same_knees_at_another_place_is_the_same_split(place, tiny, knees):
    overrides = [item for item in tiny.overrides if not item.startswith("data.source")]
    shutil.copytree(knees, "first")
    train(compose("train", [*overrides, "data=folder", "data.root=first", "explain=none", "out=o"]))
    there = evaluate(
        compose("eval", ["ckpt=o/checkpoints/best.ckpt", "out=a", "explain=none", "split=val", "report=false"])
    )
    Path("first").rename("second")
    with pytest.raises(InputError, match=f"data.root={place}/first: there is no such folder"):
        evaluate(
            compose("eval", ["ckpt=o/checkpoints/best.ckpt", "out=b", "explain=none", "split=val", "report=false"])
        )
    moved = ["ckpt=o/checkpoints/best.ckpt", "out=c", "explain=none", "split=val", "data=folder", "data.root=second"]
    here = evaluate(compose("eval", moved))
    assert {**here, "out": ""} == {**there, "out": ""}


@pytest.mark.parametrize("source", [
    {"_target_": "os.mkdir", "path": "ran", "n_patients": 40, "seed": 2018, "grade_shares": None},
    {"n_patients": {"_target_": "os.mkdir", "path": "ran"}, "seed": 2018, "grade_shares": None},
    {"n_patients": "${oc.create:'{_target_: os.mkdir, path: ran}'}", "seed": 2018, "grade_shares": None},
])  # fmt: skip
def test_nothing_that_a_checkpoint_names_is_run(source, trained, place, compute, tmp_path):
    def plant(record):
        record["config"]["data"]["source"] = source

    try:
        compute("tracking=none", ckpt=altered(trained, tmp_path, plant))
    except InputError as error:
        assert "\n" not in str(error)
    assert not (place / "ran").exists()


@pytest.mark.slow
def test_a_loss_that_no_config_names_is_omitted(trained, place, compute, tmp_path):
    result, folder = compute(
        "tracking=none", ckpt=altered(trained, tmp_path, lambda record: record.update(loss="os.system"))
    )
    assert result["loss"] is None
    assert json.loads((folder / "metrics.json").read_text())["loss"] is None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "not a checkpoint, or truncated while it was written"),
        (b"half of something", "give"),
        ({"state_dict": {}}, "written by another program"),
    ],
)
def test_bad_checkpoints(content, line, trained, launch, place):
    torch.save(content, "bad.ckpt") if isinstance(content, dict) else Path("bad.ckpt").write_bytes(content)
    ended = launch("eval", "ckpt=bad.ckpt")
    assert ended.code == 2
    [error] = ended.err
    assert error.startswith("error: ckpt=bad.ckpt: ")
    assert line in error
    assert list((place / "outputs").iterdir()) == []


def test_a_network_that_gives_no_numbers_is_refused(trained, compute, tmp_path):
    content = torch.load(trained.best, weights_only=True)
    content["state_dict"][list(content["state_dict"])[-1]][:] = float("nan")
    torch.save(content, tmp_path / "nan.ckpt")
    with pytest.raises(InputError, match=r"nan.ckpt: its network gives NaN or infinite logits, so its weights are dam"):
        compute(f"ckpt={tmp_path / 'nan.ckpt'}", "explain=none", "tracking=none")


def test_a_checkpoint_that_was_cut_off(trained, launch, place):
    Path("cut.ckpt").write_bytes(trained.best.read_bytes()[:5000])
    ended = launch("eval", "ckpt=cut.ckpt")
    assert (ended.code, len(ended.err)) == (2, 1)


def test_what_is_printed(trained, launch, tmp_path):
    ended = launch(
        "eval", f"ckpt={trained.best}", f"out={tmp_path}/a b", "explain=none", "tracking=none", "report=false"
    )
    assert ended.code == 0
    assert ended.out[-2:] == ["research use only, not a medical device", f"written to {tmp_path}/a b"]
    text = "\n".join(ended.out)
    assert "phantom data, no pretrained weights" in text
    assert "quadratic_kappa" in text


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("data.image_size=128", "data.image_size=128: the checkpoint requires data.image_size=64"),
        ("data.fit=stretch", "data.fit=stretch: the checkpoint requires data.fit=letterbox"),
        ("data.eval_batch_size=7", "data.eval_batch_size=7: has no effect here; type batch_size=N"),
    ],
)
def test_what_the_checkpoint_brings_along_cannot_be_typed(typed, line, trained, launch, place):
    ours = [f"ckpt={trained.best}", "data=phantom", "data.source.n_patients=40", "tracking=none", "explain=none"]
    ended = launch("eval", *ours, typed)
    assert ended.code == 2
    assert ended.err == [f"error: {line}" + ("" if "batch" in typed else "; omit the key")]


def test_what_the_checkpoint_brings_along_may_be_repeated(trained, launch, place):
    ours = [f"ckpt={trained.best}", "data=phantom", "data.source.n_patients=40", "tracking=none", "explain=none"]
    assert launch("eval", *ours, "data.image_size=64", "data.canonical_side=null", "report=false").code == 0


def test_grades_that_are_unknown_are_not_measured():
    knees = pd.DataFrame({"path": ["a", "b", "c"], "patient": ["1", "1", "2"], "side": "", "grade": [0, -1, 1]})
    logits = torch.tensor([[9.0, 0, 0, 0, 0], [0, 0, 0, 0, 9.0], [9.0, 0, 0, 0, 0]])
    metrics = table_metrics(table.predictions_table(knees, logits, "softmax"))
    assert (metrics["n_knees"], metrics["n_patients"], metrics["accuracy"]) == (2, 2, 0.5)
    assert metrics["auroc_oa"] is None
    expected = torch.nn.functional.cross_entropy(logits[[0, 2]], torch.tensor([0, 1])).item()
    assert mean_loss(CrossEntropy(), logits, knees["grade"]) == pytest.approx(expected)
    with pytest.raises(InputError, match="no labelled knee"):
        table_metrics(table.predictions_table(knees.assign(grade=-1), logits, "softmax"))


def test_further_columns_of_a_table_are_kept(compute, knees, tmp_path):
    files = sorted(knees.glob("*/*.png"))[::4]
    rows = pd.DataFrame({"path": map(str, files), "grade": [int(file.parent.name) for file in files]})
    rows["patient"] = [file.stem[:-1] for file in files]
    rows["age"], rows["site"] = np.arange(len(rows)) + 50.5, "Ulm"
    rows.loc[3, ["age", "site"]] = None
    rows.to_csv(tmp_path / "knees.csv", index=False)
    _, folder = compute("data=table", f"data.table='{tmp_path}/knees.csv'", "split=all", "tracking=none")
    for made in (pd.read_csv(folder / "predictions.csv"), pd.read_parquet(folder / "predictions.parquet")):
        assert list(made.columns) == [*COLUMNS, "age", "site"]
        assert made["age"].fillna(0).tolist() == rows["age"].fillna(0).tolist()
        assert made["site"].fillna("").tolist() == rows["site"].fillna("").tolist()


def test_what_is_undefined_is_null_in_every_file(graded_table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = graded_table(60)
    rows[rows["grade"] != 4].to_csv("t.csv", index=False)
    evaluate(compose("eval", ["table=t.csv", "out=out", "n_resamples=100", "report=false"]))
    metrics, intervals = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("metrics", "intervals"))
    assert metrics["f1_4"] is metrics["f1_4_expected"] is intervals["f1_4"]["value"] is None
    both = metrics.keys() & intervals.keys()
    assert len(both) > 15
    assert {name for name in both if metrics[name] is None} == {n for n in both if intervals[n]["value"] is None}
