import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from koa_lightning.checkpoint import reading as checkpoint
from koa_lightning.checkpoint import training_overlap
from koa_lightning.checkpoint.fitted import Calibration, Fitted
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation import ensemble, grading
from koa_lightning.evaluation.evaluate import evaluate
from koa_lightning.metrics import predictions
from koa_lightning.training.run import train

pytestmark = pytest.mark.usefixtures("blank_figures")

TINY = ["trainer.max_epochs=1", "explain=none", "tracking=none", "seed=1"]


@pytest.fixture(scope="session")
def folded_once(tmp_path_factory, tiny):
    """The two folds of a cross-validation, and a run of another image size; do not change them."""
    place = tmp_path_factory.mktemp("folded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOA_CACHE", str(place / "cache"))
        patch.chdir(place)
        for fold in range(2):
            train(tiny.config(*TINY, "data.folds=2", f"data.fold={fold}", "data.image_size=32", f"out=cv/fold_{fold}"))
        train(tiny.config(*TINY, "data.image_size=48", "out=other"))
    (place / "cv/cross_validation.json").write_text(json.dumps({"settings": {"data.folds": 2}}))
    best = [place / f"{run}/checkpoints/best.ckpt" for run in ("cv/fold_0", "cv/fold_1", "other")]
    return SimpleNamespace(place=place, cv=place / "cv", best=best)


@pytest.fixture
def folded(folded_once, alone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return folded_once


@pytest.fixture
def measure(tmp_path):
    def run(ckpt, *overrides, out="out"):
        cfg = compose(
            "eval",
            [f"out='{tmp_path}/{out}'", "explain=none", "tracking=none", "quiet=true", "report=false", *overrides],
        )
        cfg.ckpt = ckpt
        return evaluate(cfg), tmp_path / out

    return run


def read(folder):
    return pd.read_parquet(folder / "predictions.parquet")


def test_the_mean_of_the_members_probabilities_on_the_test_split(folded, measure, capsys):
    result, folder = measure([str(folded.best[0]), str(folded.best[2])])
    alone = [read(measure(str(folded.best[number]), out=f"alone{number}")[1]) for number in (0, 2)]
    together = read(folder)
    assert together["path"].tolist() == alone[0]["path"].tolist() == alone[1]["path"].tolist()
    mean = (alone[0][predictions.PROBABILITIES] + alone[1][predictions.PROBABILITIES]) / 2
    np.testing.assert_allclose(together[predictions.PROBABILITIES], mean, atol=1e-6)
    assert (together["members"] == 2).all()
    back = torch.softmax(torch.tensor(together[predictions.LOGITS].to_numpy()), 1).numpy()
    np.testing.assert_allclose(back, together[predictions.PROBABILITIES], atol=1e-6)
    said = capsys.readouterr().out
    assert f"2 members, none trained on any of the {len(together)} knees" in said
    assert result["n_knees"] == len(together)


def test_the_members_stand_beside_it(folded, measure):
    result, folder = measure(str(folded.cv))
    facts = json.loads((folder / "ensemble.json").read_text())
    assert [entry["name"] for entry in facts["members"]] == ["fold_0", "fold_1"]
    assert facts["ensemble"]["quadratic_kappa"] == result["quadratic_kappa"]
    assert facts["marks"] == ["phantom data", "no pretrained weights"]
    assert facts["calibrated"] == "not at all: no member has a calibration"
    rows = pd.read_csv(folder / "ensemble.csv")
    assert rows["name"].tolist() == ["fold_0", "fold_1", "ensemble"]
    for number, entry in enumerate(facts["members"]):
        own = pd.read_parquet(folder / f"members/{number}.parquet")
        assert entry["metrics"]["accuracy"] == pytest.approx((own["grade"] == own["predicted"]).mean())
        assert rows["accuracy"][number] == pytest.approx(entry["metrics"]["accuracy"])


@pytest.mark.slow
def test_the_folds_of_a_cross_validation_grade_only_what_they_did_not_see(folded, measure, capsys):
    _, folder = measure(str(folded.cv), "split=val")
    said = capsys.readouterr().out
    together = read(folder)
    assert f"out of fold: each of the {len(together)} knees is graded by the one member of 2 not trained on it" in said
    assert (together["members"] == 1).all()
    for number in range(2):
        own = set(pd.read_parquet(folder / f"members/{number}.parquet")["patient"])
        manifest = pd.read_parquet(folded.cv / f"fold_{number}/manifest.parquet")
        assert own == set(manifest.loc[manifest["split"] == "val", "patient"])
    assert set(together["path"]) == set(manifest["path"])


@pytest.mark.slow
def test_of_other_data_too_a_member_grades_only_what_it_did_not_see(folded, measure, capsys):
    """By file content: the same phantoms under another split, and a checkpoint without its run folder."""
    shutil.copy(folded.best[1], "moved.ckpt")
    more = ["data=phantom", "data.source.n_patients=40", "split=all"]
    _, folder = measure([str(folded.best[0]), "moved.ckpt"], *more)
    together = read(folder).set_index("path")
    manifest = pd.read_parquet(folded.cv / "fold_0/manifest.parquet")
    assert (together.loc[manifest["path"], "members"] == 1).all()
    assert (together.drop(manifest["path"])["members"] == 2).all()
    assert "by the members not trained on it: 1 to 2 of 2" in capsys.readouterr().out


def test_nothing_is_measured_on_what_all_were_trained_on(folded, measure):
    with pytest.raises(InputError, match="split=train: every member was trained on all of these"):
        measure([str(folded.best[2]), str(folded.best[2]).replace("best", "last")], "split=train")


@pytest.mark.slow
def test_knees_that_all_were_trained_on_are_omitted_and_counted(folded, measure, capsys):
    last = str(folded.best[2]).replace("best", "last")
    result, _ = measure([str(folded.best[2]), last], "split=all")
    manifest = pd.read_parquet(folded.place / "other/manifest.parquet")
    trained = int((manifest["split"] == "train").sum())
    assert result["n_knees"] == 80 - trained
    assert f"{trained} omitted, as every member was trained on them" in capsys.readouterr().out


def test_a_member_whose_training_is_lost_is_named(folded, measure, knees, capsys, monkeypatch):
    shutil.copy(folded.best[0], "moved.ckpt")
    monkeypatch.setattr(training_overlap, "seen_in_training", lambda read: None)
    measure(["moved.ckpt", str(folded.best[2])], "data=folder", f"data.root='{knees}'", "split=all")
    assert "2 members on 80 knees; the training knees of moved, other are not known" in capsys.readouterr().out


def test_what_was_trained_on_must_be_what_the_checkpoint_says(folded):
    def seen(change=lambda record: None):
        content = torch.load(folded.best[0], weights_only=True)
        change(content["koa_lightning"]["data"])
        torch.save(content, "moved.ckpt")
        return training_overlap.seen_in_training(checkpoint.read("moved.ckpt"))

    beside = training_overlap.seen_in_training(checkpoint.read(folded.best[0]))
    assert seen()["hash"].tolist() == beside["hash"].tolist()
    assert seen(lambda data: data.update(fingerprint="another")) is None
    assert seen(lambda data: data.update(name="folder")) is None


def test_patients_count_where_the_sources_name_them_alike():
    seen = pd.DataFrame({"hash": ["a", "b", "c"], "patient": ["1", "1", "2"], "split": ["train", "train", "val"]})
    rows = pd.DataFrame({"hash": ["x", "c", "y"], "patient": ["1", "2", "3"]})
    assert training_overlap.was_trained_on(rows, seen).tolist() == [True, False, False]
    other = rows.assign(hash=["x", "z", "y"])  # nothing in common: patient 1 is somebody else
    assert training_overlap.was_trained_on(other, seen).tolist() == [False, False, False]
    assert training_overlap.was_trained_on(rows.assign(hash=["b", "z", "y"], patient=""), seen).tolist() == [
        True,
        False,
        False,
    ]


def test_calibration_is_said_to_be_before_averaging_and_why():
    entries = (
        Fitted(calibration=Calibration(method="temperature")),
        Fitted.left_out("few"),
        Fitted(),
    )
    reads = [SimpleNamespace(record=SimpleNamespace(fitted=each)) for each in entries]
    said = ensemble._calibrated(True, reads)
    assert said.startswith("before averaging: 1 of 3 members by their own checkpoints")
    assert "no knees are left" in said
    assert ensemble._calibrated(False, reads) == "not at all (calibrated=false)"


def test_members_must_name_the_same_grades(folded, measure):
    content = torch.load(folded.best[0], weights_only=True)
    content["koa_lightning"]["grade_names"] = ["a", "b", "c", "d", "e"]
    torch.save(content, "odd.ckpt")
    with pytest.raises(InputError, match=r"ckpt=odd.ckpt: its grades are a, b, c, d, e, those of .* are none, doubt"):
        measure([str(folded.best[2]), "odd.ckpt"])


def test_members_must_have_the_same_knees(folded, measure):
    content = torch.load(folded.best[0], weights_only=True)
    content["koa_lightning"]["config"]["data"]["source"]["n_patients"] = 20
    torch.save(content, "small.ckpt")
    with pytest.raises(InputError, match=r"member small: its data lack phantom.* data=... split=all"):
        measure([str(folded.best[2]), "small.ckpt"])


def test_two_grades_for_one_knee():
    p = {column: [0.2] for column in predictions.PROBABILITIES}
    one = pd.DataFrame({"path": ["a"], "grade": [1], **p})
    with pytest.raises(InputError, match="a: the members' data give it different grades"):
        grading.average([one, one.assign(grade=2)])


@pytest.mark.slow
def test_from_the_command_line_with_a_run_of_its_own(folded, launch, place):
    several = f"[{folded.best[0]},{folded.best[2]}]"
    ended = launch("eval", f"ckpt={several}", "out=o", "explain=none", "quiet=true", "report=false")
    assert ended.code == 0, ended.err
    assert "members and ensemble" in "\n".join(ended.out)
    assert Path("o/ensemble.csv").exists()
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    [run] = client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])
    assert run.data.tags["marks"] == "phantom data, no pretrained weights"
    assert "test/quadratic_kappa" in run.data.metrics
    assert "eval/test/ensemble.json" in {item.path for item in client.list_artifacts(run.info.run_id, "eval/test")}
