import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from koa_lightning.config import outcome, overrides, run_folder
from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.evaluation.evaluate import table_metrics
from koa_lightning.metrics import predictions
from koa_lightning.sweeps import cross_validate, processes
from koa_lightning.training import cross_validation
from koa_lightning.training import run as train

pytestmark = pytest.mark.usefixtures("blank_figures")

SECONDS = 300  # what takes longer hangs
TINY = [
    "data.folds=3", "data.image_size=32", "data.batch_size=8", "model=resnet18", "model.weights=none",
    "model.name=test_efficientnet", "trainer=cpu", "trainer.precision=fp32", "trainer.max_epochs=1",
    "optimizer.lr=3e-3", "explain=none", "quiet=true",
]  # fmt: skip
N_TEST = 8  # patients


class InThisProcess:
    """Stands for `processes.run_all`: no process is begun, and folds can be told to die or to be interrupted."""

    def __init__(self):
        self.begun, self.dies = [], {}

    def __call__(self, function, pieces, parallel, ended):
        codes = {}
        assert function == "koa_lightning.training.cross_validation:work"
        for fold, piece in pieces.items():
            self.begun.append(fold)
            self.pieces = pieces
            end = self.dies.get(fold)
            if end is KeyboardInterrupt:
                raise end
            codes[fold] = cross_validation.work(piece.argument) if end is None else end
            if not ended(fold, codes[fold]):
                break
        return codes


@pytest.fixture
def runner(monkeypatch):
    made = InThisProcess()
    monkeypatch.setattr(processes, "run_all", made)
    return made


def make_table(knees, folder):
    """A table of all knees with further columns; the files of its test split are no images."""
    files = sorted(knees.glob("*/*.png"))
    rows = pd.DataFrame(
        {"path": [f"open/{f.parent.name}/{f.name}" for f in files], "grade": [f.parent.name for f in files]}
    )
    rows["patient"] = [f.stem[:-1] for f in files]
    rows["side"] = [f.stem[-1] for f in files]
    shutil.copytree(knees, folder / "open")
    test = rows["patient"].isin(sorted(rows["patient"].unique())[:N_TEST])
    rows["split"] = np.where(test, "test", "train")
    rows.loc[test, "path"] = rows["path"][test].str.replace("open/", "closed/")
    for path in rows["path"][test]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"no image")
        (folder / path).chmod(0)
    rows["age"] = np.arange(len(rows)) % 30 + 45.5
    rows["sex"] = np.where(np.arange(len(rows)) % 3, "f", "")
    rows["fold"] = "mine"  # gives way to the fold of the cross-validation
    rows.to_csv(folder / "knees.csv", index=False)
    return rows


@pytest.fixture(scope="module")
def crossed(tmp_path_factory, knees, ready_database):
    """A cross-validation in which fold 1 was killed once, and the same command again; do not change it."""
    folder = tmp_path_factory.mktemp("crossed")
    rows = make_table(knees, folder)
    (folder / "mlruns").mkdir()
    shutil.copy(ready_database, folder / "mlruns")
    opened, listening, made = [], [True], InThisProcess()
    sys.addaudithook(lambda event, what: opened.append(str(what[0])) if event == "open" and listening else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KOA_CACHE", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        patch.setattr(processes, "run_all", made)
        cfg = config("out=out", "tracking.run_name=mine")
        made.dies = {1: -9}
        first = cross_validate.cross_validate(cfg.copy())
        begun, made.begun, made.dies = made.begun, [], {}
        after_first = sorted(path.name for path in (folder / "out").iterdir())
        second = cross_validate.cross_validate(cfg.copy())
    listening.clear()  # the hook stays for ever
    return SimpleNamespace(
        place=folder, out=folder / "out", rows=rows, first=first, second=second, begun=(begun, made.begun),
        after_first=after_first, opened=opened,
    )  # fmt: skip


def config(*more):
    return compose("cross_validate", ["data=table", "data.table=knees.csv", *TINY, *more])


@pytest.fixture
def here(crossed, alone, monkeypatch):
    """The working directory of that cross-validation."""
    monkeypatch.setenv("KOA_CACHE", str(crossed.place / "cache"))
    monkeypatch.chdir(crossed.place)
    return crossed


@pytest.fixture
def copied(here, tmp_path):
    """A copy of that cross-validation that may be changed."""
    shutil.copytree(here.out, tmp_path / "out")
    return tmp_path / "out"


def children(place):
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])
    [parent] = [run for run in runs if run.info.run_name == "mine"]
    return parent, {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id}


@pytest.mark.slow
def test_a_fold_that_dies_ends_alone_and_is_repeated_alone(crossed):
    assert crossed.begun == ([0, 1, 2], [1])
    assert crossed.first["exit_code"] == outcome.PARTLY
    assert crossed.second["exit_code"] == outcome.DONE
    assert crossed.after_first == [".lock", "cross_validation.json", "fold_0", "fold_2"]


def test_the_out_of_fold_table(crossed):
    parquet, csv = pd.read_parquet(crossed.out / "predictions.parquet"), pd.read_csv(crossed.out / "predictions.csv")
    assert list(parquet.columns) == list(csv.columns) == [*predictions.COLUMNS, "age", "sex", "fold"]
    own = crossed.rows[crossed.rows["split"] != "test"]
    assert parquet["path"].tolist() == sorted(str(crossed.place / path) for path in own["path"])
    assert parquet.groupby("patient")["fold"].nunique().eq(1).all()
    assert sorted(set(parquet["fold"])) == [0, 1, 2]
    for column in ("age", "sex", "grade"):
        assert parquet[column].fillna("").astype(str).tolist() == own.sort_values("path")[column].astype(str).tolist()
    for fold in range(3):
        alone = pd.read_parquet(crossed.out / f"fold_{fold}" / "predictions.parquet")
        ours = parquet[parquet["fold"] == fold].reset_index(drop=True)
        pd.testing.assert_frame_equal(ours[predictions.COLUMNS], alone[predictions.COLUMNS])


def test_further_columns_are_in_the_manifest_of_the_run(crossed):
    manifest = pd.read_parquet(crossed.out / "fold_0" / "manifest.parquet").set_index("path")
    own = crossed.rows[crossed.rows["split"] != "test"]
    for name in ("age", "sex"):
        there = manifest[name].loc[[str(crossed.place / path) for path in own["path"]]]
        assert there.fillna("").tolist() == own[name].tolist()


def test_the_metrics_are_those_of_the_pooled_table_and_their_spread(crossed):
    metrics = json.loads((crossed.out / "metrics.json").read_text())
    pooled = pd.read_parquet(crossed.out / "predictions.parquet")
    assert {name: metrics[name] for name in table_metrics(pooled)} == table_metrics(pooled)
    for fold, own in enumerate(metrics["folds"]):
        computed = table_metrics(pooled[pooled["fold"] == fold])
        assert {name: own[name] for name in computed} == computed
    kappas = [own["quadratic_kappa"] for own in metrics["folds"]]
    assert metrics["between_folds"]["quadratic_kappa"] == pytest.approx(
        {"mean": np.mean(kappas), "sd": np.std(kappas, ddof=1), "min": min(kappas), "max": max(kappas)}
    )
    losses = np.average([o["loss"] for o in metrics["folds"]], weights=[o["n_knees"] for o in metrics["folds"]])
    assert metrics["loss"] == pytest.approx(losses)
    assert metrics["marks"] == ["no pretrained weights"]
    assert crossed.second["val/quadratic_kappa"] == metrics["quadratic_kappa"]


def test_one_parent_run_and_a_child_a_fold(crossed):
    parent, kids = children(crossed.place)
    assert parent.info.status == "FINISHED"
    assert sorted(kids) == ["mine fold 0", "mine fold 1", "mine fold 2"]
    assert {kid.info.status for kid in kids.values()} == {"FINISHED"}
    metrics = json.loads((crossed.out / "metrics.json").read_text())
    assert parent.data.metrics["oof/quadratic_kappa"] == metrics["quadratic_kappa"]
    assert parent.data.metrics["oof/mae_sd"] == metrics["between_folds"]["mae"]["sd"]
    assert "oof/n_knees_sd" not in parent.data.metrics
    assert parent.data.tags["split"] == "official in 3 folds (seed 0)"
    assert {kid.data.tags["split"] for kid in kids.values()} == {parent.data.tags["split"]}
    assert parent.data.tags["marks"] == "no pretrained weights"
    client = MlflowClient(f"sqlite:///{crossed.place}/mlruns/mlflow.db")
    assert {Path(item.path).name for item in client.list_artifacts(parent.info.run_id, "oof")} == {
        "predictions.csv", "predictions.parquet", "metrics.json", "confusion_matrix.png",
    }  # fmt: skip


def test_the_test_part_stays_shut(crossed):
    assert any("/open/" in path for path in crossed.opened)
    assert not [path for path in crossed.opened if "/closed/" in path]


@pytest.mark.slow
def test_folds_of_a_sweep_are_the_same(here, launch):
    arguments = ["data=table", "data.table=knees.csv", *TINY, "tracking=none", "data.fold=0,1,2"]
    assert launch("train", "-m", *arguments, "out=sweep").code == 0
    for fold in range(3):
        one, other = (
            json.loads((place / "done.json").read_text())
            for place in (here.out / f"fold_{fold}", here.place / f"sweep/{fold}")
        )
        for name in ("checkpoint", "run_id"):
            one.pop(name), other.pop(name)
        assert one == other
    shutil.rmtree(here.place / "sweep")


def test_what_is_done_is_not_done_again(copied, runner, capsys):
    before = {path: path.stat().st_mtime_ns for path in copied.glob("fold_*/**/*") if path.is_file()}
    result = cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none"))
    assert (runner.begun, result["exit_code"]) == ([], outcome.DONE)
    assert before == {path: path.stat().st_mtime_ns for path in copied.glob("fold_*/**/*") if path.is_file()}
    out = capsys.readouterr().out
    assert "3 of them done" in out
    assert "out of fold: 64 knees of 32 patients, 3 folds" in out
    assert "research use only, not a medical device" in out
    assert "pooled" in out


@pytest.mark.parametrize("right", [True, False])
def test_the_end_says_where_one_grade_for_all_is_as_good(copied, runner, capsys, right):
    for file in copied.glob("fold_*/predictions.parquet"):
        rows = pd.read_parquet(file)
        for grade in range(5):
            rows[f"p{grade}"] = np.float32(rows["grade"] == grade if right else grade == 1)
        rows.to_parquet(file)
    cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none"))
    assert ("out of fold: no better than always grade " in capsys.readouterr().out) is not right


def test_a_fold_that_was_trained_is_only_graded(copied, runner, monkeypatch):
    (copied / "fold_2" / "fold.json").unlink()
    monkeypatch.setattr(cross_validation, "train", None)
    cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none"))
    assert runner.begun == [2]


def test_a_fold_that_was_killed_continues_from_its_last_checkpoint(copied, runner, capsys):
    before = (copied / "fold_0" / "history.csv").read_text()
    (copied / "fold_0" / "done.json").unlink()
    result = cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none"))
    assert result["exit_code"] == outcome.DONE
    assert "resuming" in capsys.readouterr().out
    assert (copied / "fold_0" / "history.csv").read_text() == before


def test_other_settings_do_not_mix(copied, runner):
    with pytest.raises(
        InputError, match=r"seed=1: the cross-validation in .* began with 42; type the same, or another"
    ):
        cross_validate.cross_validate(config(f"out='{copied}'", "seed=1"))
    with pytest.raises(InputError, match=r"fresh=true needs another folder"):
        cross_validate.cross_validate(config(f"out='{copied}'", "fresh=true"))
    assert runner.begun == []


@pytest.mark.slow
def test_each_fold_may_train_on_a_share(copied, runner, capsys):
    shutil.rmtree(copied)
    result = cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none", "data.fraction=0.6"))
    assert (result["exit_code"], result["n_knees"]) == (outcome.DONE, 64)
    assert len(pd.read_parquet(copied / "fold_0" / "manifest.parquet")) < 64


@pytest.mark.slow
def test_data_that_changed_stops(copied, runner, capsys):
    manifest = pd.read_parquet(copied / "fold_1" / "manifest.parquet")
    manifest.loc[3, "hash"] = "0" * 32
    manifest.to_parquet(copied / "fold_1" / "manifest.parquet")
    with pytest.raises(InputError, match="fold_1: its knees differ from those of earlier folds; the data has changed"):
        cross_validate.cross_validate(config(f"out='{copied}'", "tracking=none"))
    (copied / "fold_2" / "fold.json").unlink()
    (rows := pd.read_csv("knees.csv")).assign(side="").to_csv("other.csv", index=False)
    assert len(rows)
    cfg = compose("train", ["data=table", "data.table=other.csv", *TINY, f"out='{copied}/fold_2'", "data.fold=2"])
    with pytest.raises(InputError, match="the data has changed since this fold was trained"):
        cross_validation.train_fold(cfg)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["data.folds=null"], "data.folds must be given"),
        (["ckpt=last"], "ckpt=last: a cross-validation resumes by itself"),
        (["data.fold=2"], "data.fold=2: .* trains every fold; to train one alone: .* data.folds=3 data.fold=2"),
        (["parallel=64", "trainer.devices=100"], "parallel=64: each takes 100 cores, and there are"),
        (["parallel=0"], "parallel=0: must be"),
        (["data.folds=20"], r"fold \d+ of 20: data=table: the val split has no knee of grade"),
        (["data.table=none.csv"], "fold 0 of 3: data.table=.*none.csv: there is no such file"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(here, runner, tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        cross_validate.cross_validate(config(f"out='{tmp_path}/out'", *more))
    assert runner.begun == []


def test_bad_input_in_the_first_fold_ends_all(here, runner, launch, tmp_path):
    arguments = ["data=table", "data.table=knees.csv", *TINY, "tracking=none", f"out={tmp_path}/out", "explain=gradcam"]
    wrong = launch("cross_validate", *arguments, "optimizer.factory._target_=torch.optim.SGD")
    assert (wrong.code, runner.begun) == (outcome.BAD_INPUT, [0])
    assert [line for line in wrong.err if line.startswith("error: fold 0: optimizer")]
    assert not any("Traceback" in line for line in wrong.err)


def test_a_fault_of_the_program_ends_its_fold_with_the_traceback(here, monkeypatch, capsys, tmp_path):
    def fails(cfg):
        raise RuntimeError("broken")

    monkeypatch.setattr(cross_validation, "train", fails)
    config = {"out": str(tmp_path), "data": {"fold": 0}, "ckpt": None}
    config["trainer"] = {"accelerator": "cpu", "devices": 1}
    assert cross_validation.work({"config": config, "overrides": None}) == outcome.PARTLY
    assert "RuntimeError: broken" in capsys.readouterr().err
    monkeypatch.setattr(cross_validation, "train", lambda cfg: {"exit_code": outcome.INTERRUPTED})
    assert cross_validation.work({"config": config, "overrides": None}) == outcome.INTERRUPTED


@pytest.mark.slow
def test_ctrl_c(here, runner, launch, place):
    shutil.copy(here.place / "knees.csv", "my knees.csv")
    arguments = ["data=table", "data.table=my knees.csv", f"data.root={here.place}", *TINY]
    runner.dies = {0: -9, 1: KeyboardInterrupt}
    ended = launch("cross_validate", *arguments)
    assert ended.code == outcome.INTERRUPTED
    assert ended.err[-1] == "error: fold 0: was killed by signal 9"
    again = f"python -m koa_lightning.cross_validate data=table 'data.table=my knees.csv' data.root={here.place} "
    assert ended.out[-1] == f"interrupted; resume with: {again}{' '.join(TINY)}"
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    [parent] = client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])
    assert parent.info.status == "KILLED"
    left = client.create_run(parent.info.experiment_id, tags={"mlflow.parentRunId": parent.info.run_id})
    runner.dies = dict.fromkeys(range(3), 1)
    ended = launch("cross_validate", *arguments)
    assert (ended.code, ended.out[-1]) == (outcome.PARTLY, f"train the remaining folds with: {again}{' '.join(TINY)}")
    assert ended.out[-2] == "not finished: fold 0, 1, 2 of 3; nothing was pooled"
    assert client.get_run(left.info.run_id).info.status == "KILLED"  # its process was killed, so it could not say so
    assert client.get_run(parent.info.run_id).info.status == "FAILED"
    assert len(list(Path("outputs").iterdir())) == 1


@pytest.mark.slow
def test_starting_anew(here, runner, launch, place):
    arguments = ["data=table", f"data.table={here.place}/knees.csv", *TINY, "tracking=none"]
    runner.dies = dict.fromkeys(range(3), 1)
    for number in (1, 2):
        ended = launch("cross_validate", *arguments, "fresh=true")
        assert len(list(Path("outputs").iterdir())) == number
    newest = max(Path("outputs").iterdir())
    assert ended.out[-1].endswith(f"tracking=none out={newest.absolute()}")
    assert "fresh" not in ended.out[-1]


@pytest.mark.slow
def test_a_fold_can_be_gone_on_with_by_train_too(here, runner, launch, tmp_path):
    out = tmp_path / "out"
    arguments = ["data=table", "data.table=knees.csv", *TINY, f"out={out}", "tracking=none"]
    runner.dies = {1: 1, 2: 1}
    launch("cross_validate", *arguments)
    (out / "fold_0" / "done.json").unlink()
    restored = run_folder.with_old_overrides([f"ckpt={out}/fold_0/checkpoints/last.ckpt"])
    cfg = compose("train", [item for item in restored if overrides.key(item) != "hydra.output_subdir"])
    assert train.train(cfg)["exit_code"] == outcome.DONE
    assert not cross_validation.is_done(out / "fold_0")  # graded by what came before
    runner.begun = []
    assert launch("cross_validate", *arguments).code == outcome.PARTLY
    assert runner.begun == [0, 1, 2]
    assert cross_validation.is_done(out / "fold_0")


@pytest.mark.slow
def test_several_at_a_time_have_a_log_each(here, runner, tmp_path, capsys):
    runner.dies = dict.fromkeys(range(3), 1)
    cross_validate.cross_validate(config(f"out='{tmp_path}/out'", "parallel=2", "tracking=none"))
    assert runner.pieces[1].log == tmp_path / "out" / "fold_1" / "log.txt"
    assert f"fold 1: ended with exit code 1, see {tmp_path}/out/fold_1/log.txt" in capsys.readouterr().err


def test_keys_are_those_of_train_and_a_wrong_one_is_named(launch, place):
    wrong = launch("cross_validate", "loss.gama=3", "loss=focal")
    assert (wrong.code, len(wrong.err)) == (2, 1)
    assert "loss.gama" in wrong.err[0]
    assert "did you mean 'scheduler'" in launch("cross_validate", "schedular=cosine").err[0]
    assert not Path("outputs").exists()


def test_pooling():
    one = pd.DataFrame({"path": ["b", "d"], "fold": "x", "age": 1})
    pooled = cross_validation.pool([one, one.assign(path=["a", "c"])])
    assert pooled.to_dict("list") == {"path": list("abcd"), "age": [1] * 4, "fold": [1, 0, 1, 0]}
    with pytest.raises(InputError, match="b: is in two folds"):
        cross_validation.pool([one, one])


def test_an_undefined_metric_has_no_spread():
    spread = cross_validation.between([{"ece": 0.1, "auroc_oa": None}, {"ece": 0.3, "auroc_oa": 0.5}])
    assert spread["auroc_oa"] == dict.fromkeys(("mean", "sd", "min", "max"))
    assert spread["ece"] == pytest.approx({"mean": 0.2, "sd": np.sqrt(0.02), "min": 0.1, "max": 0.3})
    assert cross_validation._pooled_loss([{"loss": None}]) is None


COMMAND = [sys.executable, "-m", "koa_lightning.cross_validate", "data=table", "data.table=knees.csv", *TINY]


def ended_in_fold_1(place, environment, number):
    """The exit code of the command when this signal comes while its second fold trains; what it says is in `log`."""
    with Path("log").open("w") as log:
        victim = subprocess.Popen(COMMAND, env=environment, stdout=log, stderr=log)
        end = time.monotonic() + SECONDS
        while not list(place.glob("outputs/cv-*/fold_1/checkpoints/last.ckpt")):
            assert victim.poll() is None, Path("log").read_text()
            assert time.monotonic() < end
            time.sleep(0.01)
        victim.send_signal(number)
        return victim.wait(SECONDS)


@pytest.mark.slow
def test_killed_for_real_and_finished_by_the_same_command(place, knees, with_package, crossed):
    make_table(knees, place)
    assert ended_in_fold_1(place, with_package, signal.SIGKILL) == -signal.SIGKILL
    done = subprocess.run(COMMAND, env=with_package, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    [out] = place.glob("outputs/cv-*")
    one, other = (json.loads((path / "metrics.json").read_text()) for path in (out, crossed.out))
    assert one["n_knees"] == 64
    assert one == other
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 4


@pytest.mark.slow
def test_ctrl_c_for_real(place, knees, with_package):
    make_table(knees, place)
    assert ended_in_fold_1(place, with_package, signal.SIGINT) == 130
    text = Path("log").read_text()
    assert "Traceback" not in text
    assert text.splitlines()[-1].startswith(
        "interrupted; resume with: python -m koa_lightning.cross_validate data=table"
    )
