import json

import pytest

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation import explain_tests as module
from koa_lightning.evaluation.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("blank_figures")

FEW = ["explain=cam", "explain.n_tested=10", "explain.n_road=1", "quiet=true"]
VERDICTS = ["deletion", "insertion", "road", "sanity", "noise", "localisation", "shortcut"]


@pytest.mark.slow
def test_what_is_written_is_named_in_the_format_that_was_asked_for(trained, launch, tmp_path):
    typed = [f"ckpt={trained.best}", "split=val", f"out={tmp_path}/a", "tracking=none", "figures.format=[svg]", *FEW]
    ended = launch("explain_tests", *typed)
    assert ended.out[-1] == f"written to {tmp_path}/a: explanations.csv, explanations.json, explanations.svg"


def test_the_entry_point_writes_and_logs(trained, launch, tmp_path):
    store = f"tracking.uri=sqlite:///{trained.place}/mlruns/mlflow.db"
    ended = launch("explain_tests", f"ckpt={trained.best}", "split=train", f"out={tmp_path}/a b", store, *FEW)
    assert (ended.code, ended.err) == (0, [])
    assert any("not a medical device" in line for line in ended.out)
    assert "WARNING: these results carry the caveat: phantom data" in ended.out
    written = json.loads((tmp_path / "a b/explanations.json").read_text())
    assert list(written["verdicts"]) == VERDICTS
    assert (written["part"], written["data"], written["n"]) == ("train", "phantom", 10)
    assert {path.name for path in (tmp_path / "a b").glob("explanations.*")} == {
        "explanations.json", "explanations.csv", "explanations.png",
    }  # fmt: skip
    assert ended.out[-1] == f"written to {tmp_path}/a b: explanations.csv, explanations.json, explanations.png"
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{trained.place}/mlruns/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.split = 'train'")
    (run,) = [run for run in runs if run.data.tags.get("explain.sanity")]
    assert "explain_train/similarity_random_network" in run.data.metrics
    assert {file.path for file in client.list_artifacts(run.info.run_id, "explanations")} == {
        f"explanations/explanations.{kind}" for kind in ("json", "csv", "png")
    }


@pytest.mark.slow
def test_eval_tests_too_where_it_is_asked(trained, tmp_path):
    common = [f"ckpt='{trained.best}'", "split=val", "tracking=none", "report=false", *FEW]
    evaluate(compose("eval", [*common, f"out='{tmp_path}/a'", "explain.tests=true"]))
    assert json.loads((tmp_path / "a/explanations.json").read_text())["part"] == "val"
    evaluate(compose("eval", [*common, f"out='{tmp_path}/b'"]))
    assert not (tmp_path / "b/explanations.json").exists()


@pytest.mark.slow
def test_the_control_throws_the_weights_away_and_is_marked_and_not_logged(trained, tmp_path):
    common = [f"ckpt='{trained.best}'", "split=val", *FEW]
    trained_ = module.explain_tests(compose("explain_tests", [*common, f"out='{tmp_path}/a'", "tracking=none"]))
    random_ = module.explain_tests(compose("explain_tests", [*common, f"out='{tmp_path}/b'", "randomised=true"]))
    assert random_["marks"] == [*trained_["marks"], module.RANDOMISED]
    assert random_["faithfulness"] != trained_["faithfulness"]
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.parametrize("split", ["test", "auto_test", "all"])
def test_the_test_split_is_left_to_eval(split, tmp_path):
    cfg = compose("explain_tests", ["ckpt=x.ckpt", f"split={split}", f"out='{tmp_path}/o'"])
    with pytest.raises(InputError, match=rf"^split={split}: only eval opens .* split={split} explain\.tests=true$"):
        module.explain_tests(cfg)
    assert not (tmp_path / "o").exists()


def test_without_maps_there_is_nothing_to_test(launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = launch("explain_tests", "ckpt=x.ckpt", "explain=none")
    assert ended.code == 2
    assert ended.err == ["error: explain=none: there are no maps to test; type explain=gradcam"]


def test_a_wrong_method_is_named(launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = launch("explain_tests", "ckpt=x.ckpt", "explain=grad")
    assert ended.code == 2
    assert ended.err[0].startswith("error: explain=grad: no such choice; did you mean 'gradcam'?")
    ended = launch("explain_tests", "ckpt=x.ckpt", "explain.method=gradcamm")
    assert ended.err[0].endswith("did you mean 'gradcam'?")
