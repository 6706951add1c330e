"""One run of two or three epochs, and what is left of it."""

import json
import shutil
import signal
import subprocess
import sys
import threading

import pandas as pd
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from mlflow import MlflowClient

from koa_lightning.checkpoint import reading as checkpoint
from koa_lightning.config import outcome, run_folder
from koa_lightning.config.compose import compose, plain
from koa_lightning.errors import InputError
from koa_lightning.tracking.entries import flatten
from koa_lightning.training import after_fit
from koa_lightning.training import run as module
from koa_lightning.training.run import train

pytestmark = pytest.mark.usefixtures("blank_figures")

NAMES = {
    "loss", "accuracy", "balanced_accuracy", "f1_macro", "f1_0", "f1_1", "f1_2", "f1_3", "f1_4", "quadratic_kappa",
    "mae", "auroc_oa", "ece", "accuracy_expected", "balanced_accuracy_expected", "f1_macro_expected",
    "quadratic_kappa_expected", "mae_expected", "f1_0_expected", "f1_1_expected", "f1_2_expected", "f1_3_expected",
    "f1_4_expected", "accuracy_median", "balanced_accuracy_median", "f1_macro_median", "quadratic_kappa_median",
    "mae_median", "f1_0_median", "f1_1_median", "f1_2_median", "f1_3_median", "f1_4_median",
}  # fmt: skip


class At(Callback):
    """Calls a function at the start of an epoch."""

    def __init__(self, epoch, function):
        self.epoch, self.function = epoch, function

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            self.function()


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


class Unreachable(BaseException):
    """Like a power failure: nothing catches it."""


def pull_the_plug():
    raise Unreachable


@pytest.fixture
def client(trained):
    return MlflowClient(f"sqlite:///{trained.place}/mlruns/mlflow.db")


@pytest.fixture
def at(monkeypatch):
    """Have a function called at the start of an epoch of the next training."""
    original = module._trainer

    def put(epoch, function):
        def with_it(*args):
            trainer = original(*args)
            trainer.callbacks.append(At(epoch, function))
            return trainer

        monkeypatch.setattr(module, "_trainer", with_it)

    return put


def runs_in(place):
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    found = client.get_experiment_by_name("koa-lightning")
    return client.search_runs([found.experiment_id]) if found else []


def names(client, run_id, folder=None):
    return sorted(item.path for item in client.list_artifacts(run_id, folder))


def test_what_it_returns(trained):
    result = trained.result
    assert result["exit_code"] == outcome.DONE
    assert result["checkpoint"] == str(trained.best.relative_to(trained.place))
    assert {name.removeprefix("val/") for name in result if name.startswith("val/")} == NAMES
    history = pd.read_csv(trained.out / "history.csv").pivot_table("value", "epoch", "name")
    assert result["best_epoch"] == history["val/quadratic_kappa"].idxmax()
    assert result["val/mae"] == history["val/mae"][result["best_epoch"]]


def test_what_is_in_the_run_folder(trained):
    made = {str(path.relative_to(trained.out)) for path in trained.out.rglob("*") if path.is_file()}
    assert made - {".lock"} == {
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "history.csv", "manifest.parquet", "done.json",
        "figures/confusion_matrix.png", "figures/gradcam.png", "figures/learning_curves.png",
        "figures/reliability.png", "figures/risk_coverage.png",
    }  # fmt: skip
    done = json.loads((trained.out / "done.json").read_text())
    assert done["best_epoch"] == trained.result["best_epoch"]
    assert checkpoint.read(trained.best).epoch == trained.result["best_epoch"]
    assert checkpoint.read(trained.out / "checkpoints/last.ckpt").epochs_done == 3


def test_the_manifest_holds_no_knee_of_the_test_split(trained):
    manifest = pd.read_parquet(trained.out / "manifest.parquet")
    assert set(manifest["split"]) == {"train", "val"}
    assert not set(manifest["patient"][manifest["split"] == "train"]) & set(
        manifest["patient"][manifest["split"] == "val"]
    )


def test_the_mlflow_run_is_finished_and_named(trained, client):
    run = client.get_run(trained.result["run_id"])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "resnet18-crossentropy phantom 64px 3ep"
    assert not (trained.out / "mlflow_unsent.jsonl").exists()


def test_every_resolved_parameter_is_there(trained, client, tiny):
    cfg = tiny.config("out=run", "trainer.max_epochs=3")
    params = client.get_run(trained.result["run_id"]).data.params
    assert params == flatten(plain(cfg))
    assert params["callbacks.early_stopping.monitor"] == "val/quadratic_kappa"


def test_tags(trained, client):
    tags = client.get_run(trained.result["run_id"]).data.tags
    assert tags["data"] == "phantom"
    assert tags["data.fingerprint"] == checkpoint.read(trained.best).record.data.fingerprint
    assert (tags["weights"], tags["device"], tags["seed"], tags["precision"]) == ("none", "cpu", "42", "fp32")
    assert tags["marks"] == "phantom data, no pretrained weights"
    assert {"git.commit", "git.dirty", "version.torch", "version.koa_lightning", "machine.cpu"} <= tags.keys()


def test_the_data_set_is_an_input_with_its_counts(trained, client):
    [entry] = client.get_run(trained.result["run_id"]).inputs.dataset_inputs
    data = checkpoint.read(trained.best).record.data
    assert (entry.dataset.name, entry.dataset.digest) == ("phantom", data.fingerprint)
    profile = json.loads(entry.dataset.profile)
    for split in ("train", "val"):
        assert [profile[f"{split} grade {grade}"] for grade in range(5)] == data.counts[split]
    assert not any(key.startswith("test") for key in profile)


def test_metrics_of_every_epoch(trained, client):
    history = pd.read_csv(trained.out / "history.csv")
    assert {name.removeprefix("val/") for name in history["name"] if name.startswith("val/")} == NAMES
    assert {"train/loss", "train/accuracy", "train/quadratic_kappa", "train/mae"} <= set(history["name"])
    for name, rows in history.groupby("name"):
        stored = client.get_metric_history(trained.result["run_id"], name)
        assert {row.step: row.value for row in stored} == pytest.approx(dict(zip(rows.epoch, rows.value, strict=True)))
        assert len(stored) == 3


def test_best_metrics_and_system_metrics(trained, client):
    metrics = client.get_run(trained.result["run_id"]).data.metrics
    assert {name.removeprefix("best/") for name in metrics if name.startswith("best/")} == NAMES | {"epoch"}
    for name in NAMES:
        assert metrics[f"best/{name}"] == pytest.approx(trained.result[f"val/{name}"], nan_ok=True)
    assert any(name.startswith("system/") for name in metrics)


def test_artifacts_once_each(trained, client):
    run_id = trained.result["run_id"]
    assert {"config.yaml", "history.csv", "manifest.parquet", "checkpoints", "figures", "gradcam"} <= set(
        names(client, run_id)
    )
    assert names(client, run_id, "checkpoints") == ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    figures = ("confusion_matrix", "learning_curves", "reliability", "risk_coverage")
    assert names(client, run_id, "figures") == [f"figures/{name}.png" for name in figures]
    assert names(client, run_id, "gradcam") == ["gradcam/gradcam.png"]
    config = yaml.safe_load((trained.place / client.download_artifacts(run_id, "config.yaml")).read_text())
    assert config["model"]["name"] == "test_efficientnet"
    assert config["callbacks"]["early_stopping"]["mode"] == "max"


@pytest.mark.slow
def test_the_last_line_names_the_best_checkpoint(place, tiny, launch):
    ended = launch("train", *tiny.overrides, "trainer=smoke", "explain=none", "out=o")
    assert ended.code == outcome.DONE
    assert ended.out[-1].startswith(f"best checkpoint: {place}/o/checkpoints/best.ckpt (epoch 0, val/quadratic_kappa ")
    assert any(line.startswith("epoch 0/0  train/loss ") for line in ended.out)
    assert "WARNING: phantom data; every figure and the run carry this caveat" in ended.err
    assert "WARNING: no pretrained weights; every figure and the run carry this caveat" in ended.err
    history = pd.read_csv("o/history.csv")
    assert set(history["epoch"]) == {0}
    assert not (place / "o/figures/gradcam.png").exists()


def test_tracking_none_leaves_nothing_in_the_store(place, tiny):
    result = train(tiny.config("tracking=none", "trainer=smoke", "trainer.accelerator=cpu", "explain=none", "out=o"))
    assert result["run_id"] == ""
    assert runs_in(place) == []
    assert sorted(path.name for path in (place / "mlruns").iterdir()) == ["mlflow.db"]


@pytest.mark.slow
def test_the_same_command_gives_the_same_numbers(trained, place, tiny):
    result = train(tiny.config("out=again", "trainer.max_epochs=3", "tracking=none", "explain=none"))
    first = {name: value for name, value in trained.result.items() if name.startswith(("val/", "train/"))}
    assert {name: result[name] for name in first} == first
    pd.testing.assert_frame_equal(pd.read_csv("again/history.csv"), pd.read_csv(trained.out / "history.csv"))


@pytest.mark.slow
def test_a_metric_that_is_never_a_number_still_ends_with_a_best_checkpoint(place, tiny, monkeypatch):
    def undefined(self):
        return {"accuracy": torch.tensor(0.2), "quadratic_kappa": torch.tensor(torch.nan)}

    monkeypatch.setattr("koa_lightning.metrics.grade_metrics.GradeMetrics.compute", undefined)
    result = train(tiny.config("tracking=none", "explain=none", "out=o"))
    assert result["best_epoch"] == 1  # the last
    assert result["val/accuracy"] == pytest.approx(0.2)
    assert checkpoint.read("o/checkpoints/best.ckpt").epoch == 1
    assert "val/quadratic_kappa" not in json.loads((place / "o/done.json").read_text())


@pytest.mark.slow
def test_panels_every_n_epochs(place, tiny):
    train(tiny.config("tracking=none", "explain.every_n_epochs=2", "explain.n_worst=0", "out=o"))
    drawn = sorted(path.name for path in (place / "o/figures").glob("gradcam*"))
    assert drawn == ["gradcam.png", "gradcam_epoch_001.png"]


def test_ctrl_c_keeps_the_checkpoints_and_says_how_to_go_on(place, tiny, at, capsys):
    at(1, press_ctrl_c)
    before = signal.getsignal(signal.SIGINT)
    result = train(tiny.config("explain=none", "out=a b"))
    assert result["exit_code"] == outcome.INTERRUPTED
    assert signal.getsignal(signal.SIGINT) is before
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "interrupted; resume with: python -m koa_lightning.train 'ckpt=a b/checkpoints/last.ckpt'"
    [run] = runs_in(place)
    assert run.info.status == "KILLED"
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    assert names(client, run.info.run_id, "checkpoints") == ["checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    assert not (place / "a b/done.json").exists()


@pytest.mark.slow
def test_ctrl_c_while_the_run_is_closed_says_how_to_go_on_and_what_was_not_logged(
    place, tiny, monkeypatch, capsys, caplog
):
    from koa_lightning.tracking.sender import Sender

    close = Sender.close

    def interrupted(sender, seconds=None):
        monkeypatch.setattr(Sender, "close", close)
        left = threading.Event()
        monkeypatch.setattr(sender, "_deliver", lambda entries: left.set() or threading.Event().wait())  # for ever

        def join(timeout=None):
            assert left.wait(20)
            press_ctrl_c()

        sender._thread.join = join
        return close(sender, seconds)

    monkeypatch.setattr(Sender, "close", interrupted)
    result = train(tiny.config("explain=none", "out=o", "trainer.max_epochs=1"))
    assert result["exit_code"] == outcome.INTERRUPTED
    assert "resume with: python -m koa_lightning.train ckpt=o/checkpoints/last.ckpt" in capsys.readouterr().out
    assert "NOT LOGGED" in caplog.text and "1 status" in caplog.text
    assert "python -m koa_lightning.tracking.resend" in caplog.text


def test_a_run_that_is_interrupted_before_its_first_epoch_offers_no_earlier_checkpoint(
    place, tiny, monkeypatch, capsys
):
    (place / "o/checkpoints").mkdir(parents=True)
    (place / "o/checkpoints/last.ckpt").write_bytes(b"of an earlier run")

    def trainer(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_trainer", trainer)
    assert train(tiny.config("explain=none", "out=o"))["exit_code"] == outcome.INTERRUPTED
    assert "interrupted; no epoch had begun, start again" in capsys.readouterr().out


def test_a_folder_that_holds_a_run_is_left_as_it_is(trained, tiny):
    before = {path: path.stat().st_mtime_ns for path in trained.out.rglob("*") if path.is_file()}
    last = trained.out / "checkpoints/last.ckpt"
    with pytest.raises(InputError) as caught:
        train(tiny.config("explain=none", "tracking=none", f"out={trained.out}"))
    go_on = f"type ckpt={last} to resume it, or another out=FOLDER for a new one"
    assert str(caught.value) == f"out={trained.out}: already holds a run; {go_on}"
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_server_that_is_away_is_told_before_the_data_are_read(place, tiny, monkeypatch):
    from koa_lightning.data.datamodule import KneeDataModule

    monkeypatch.setattr(KneeDataModule, "prepare", lambda *arguments: pytest.fail("the data are read"))
    with pytest.raises(InputError, match="the MLflow server does not answer"):
        train(tiny.config("explain=none", "out=o", "tracking.uri=http://127.0.0.1:9"))


def test_a_metric_to_stop_by_that_is_none_is_one_line(place, tiny):
    with pytest.raises(InputError, match=r"^callbacks.early_stopping.monitor=val/kapa: no such metric; did you mean"):
        train(tiny.config("explain=none", "tracking=none", "out=o", "callbacks.early_stopping.monitor=val/kapa"))


def test_a_share_of_batches_that_is_none_is_one_line(place, tiny):
    with pytest.raises(InputError, match=r"^trainer: .*limit_train_batches"):
        train(tiny.config("explain=none", "tracking=none", "out=o", "trainer.limit_train_batches=0.01"))


@pytest.mark.slow
def test_sgd_may_release_its_stages_one_by_one(place, tiny):
    options = ["optimizer=sgd", "optimizer.unfreeze_every=1", "explain=none", "tracking=none", "calibration=none"]
    assert train(tiny.config(*options, "out=o"))["exit_code"] == outcome.DONE


@pytest.mark.slow
def test_ctrl_c_while_the_end_is_drawn(place, tiny, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(after_fit, "_draw_best", lambda *args: press_ctrl_c())
        result = train(tiny.config("explain=none", "out=o"))
    assert result["exit_code"] == outcome.INTERRUPTED
    assert runs_in(place)[0].info.status == "KILLED"
    # all epochs are done; what is left is the end
    result = train(tiny.config("explain=none", "out=o", "ckpt=o/checkpoints/last.ckpt"))
    assert result["exit_code"] == outcome.DONE
    assert [run.info.status for run in runs_in(place)] == ["FINISHED"]
    assert (place / "o/done.json").exists()
    assert "resuming o after 2 of 2 epochs" in capsys.readouterr().out


@pytest.fixture(scope="module")
def whole(trained_once, tiny):
    """The options of a run whose schedule looks at the metric, its history and its last weights."""
    options = ["trainer.max_epochs=3", "explain=none", "tracking=none", "scheduler=plateau", "scheduler.patience=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained_once.place)
        train(tiny.config(*options, "out=whole"))
        return options, pd.read_csv("whole/history.csv"), torch.load("whole/checkpoints/last.ckpt", weights_only=True)


@pytest.mark.parametrize("epoch", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_run_that_died_continues_with_the_same_numbers(epoch, whole, place, tiny, at):
    options, history, last = whole
    at(epoch, pull_the_plug)
    with pytest.raises(Unreachable):
        train(tiny.config(*options, "out=o"))
    at(99, pull_the_plug)
    train(tiny.config(*options, "out=o", "ckpt=o/checkpoints/last.ckpt"))
    pd.testing.assert_frame_equal(pd.read_csv("o/history.csv"), history)
    resumed = torch.load("o/checkpoints/last.ckpt", weights_only=True)
    for key, value in last["state_dict"].items():
        assert torch.equal(resumed["state_dict"][key], value), key


@pytest.mark.slow
def test_what_a_dead_process_could_not_log_is_logged_at_the_end(place, tiny, at, monkeypatch):
    at(1, pull_the_plug)
    with monkeypatch.context() as patch:
        patch.setattr("koa_lightning.tracking.sender.Sender._send", lambda self, entries: None)
        with pytest.raises(Unreachable):
            train(tiny.config("explain=none", "out=o"))
    at(99, pull_the_plug)
    train(tiny.config("explain=none", "out=o", "ckpt=o/checkpoints/last.ckpt"))
    [run] = runs_in(place)
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    for name in ("train/loss", "val/quadratic_kappa"):
        assert [row.step for row in client.get_metric_history(run.info.run_id, name)] in ([0, 1], [1, 0])


@pytest.mark.slow
def test_a_finished_run_trains_longer(trained, place, tiny):
    shutil.copytree(trained.out, "run")
    with pytest.raises(InputError, match="all 3 epochs are done"):
        train(tiny.config("tracking=none", "out=run", "ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=3"))
    assert (place / "run/done.json").exists()
    result = train(
        tiny.config(
            "explain=none", "tracking=none", "out=run", "ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=4"
        )
    )
    assert result["exit_code"] == outcome.DONE
    assert checkpoint.read(place / "run/checkpoints/last.ckpt").epochs_done == 4


@pytest.mark.slow
def test_a_run_that_stopped_early_and_died_does_not_train_on(place, tiny, monkeypatch):
    options = ["trainer.max_epochs=9", "callbacks.early_stopping.patience=1", "explain=none", "tracking=none", "out=o"]
    monkeypatch.setattr(
        "koa_lightning.metrics.grade_metrics.GradeMetrics.compute", lambda self: {"quadratic_kappa": torch.tensor(0.1)}
    )
    with monkeypatch.context() as patch:
        patch.setattr(after_fit, "finish", lambda *args: pull_the_plug())
        with pytest.raises(Unreachable):
            train(tiny.config(*options))
    epochs = pd.read_csv("o/history.csv")["epoch"].max()
    assert epochs == 1
    result = train(tiny.config(*options, "ckpt=o/checkpoints/last.ckpt"))
    assert result["best_epoch"] == 0
    assert pd.read_csv("o/history.csv")["epoch"].max() == epochs


def test_other_data_and_other_settings_are_refused_and_nothing_is_lost(trained, place, tiny):
    shutil.copytree(trained.out, "run")
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    resumed = ["tracking=none", "out=run", "ckpt=run/checkpoints/last.ckpt", "trainer.max_epochs=5"]
    for more, line in (
        (["data.source.seed=1"], "data.source.seed=1: the run began with 2018"),
        (["model.name=test_resnet"], "it holds test_efficientnet, but model.name=test_resnet"),
        (["loss=corn"], "loss"),
    ):
        with pytest.raises(InputError, match=line):
            train(tiny.config(*resumed, *more))
    assert {path: path.read_bytes() for path in before} == before


def test_a_loss_that_leaves_the_numbers_is_one_line_and_a_failed_run(place, tiny):
    with pytest.raises(InputError, match=r"the training diverged: .* lower optimizer.lr"):
        train(
            tiny.config("explain=none", "optimizer=sgd", "optimizer.lr=1000", "out=o", "trainer.gradient_clip_val=null")
        )
    assert [run.info.status for run in runs_in(place)] == ["FAILED"]


@pytest.mark.slow
def test_a_sweep_names_what_differs(place, tiny, launch):
    options = ["trainer=smoke", "explain=none", "out=many"]
    ended = launch("train", "-m", *tiny.overrides, *options, "loss=ce,focal", "optimizer.lr=1e-3")
    assert ended.code == outcome.DONE, ended.err
    assert {run.info.run_name for run in runs_in(place)} == {
        "sweep over loss", "resnet18-ce phantom 64px 1ep", "resnet18-focal phantom 64px 1ep"
    }  # fmt: skip
    for job in range(2):
        assert (place / f"many/{job}/done.json").exists()
        assert yaml.safe_load((place / f"many/{job}/.hydra/overrides.yaml").read_text())


@pytest.mark.slow
def test_relative_places_are_written_in_full(place, tiny, knees):
    shutil.copytree(knees, "my knees")
    config = [item for item in tiny.overrides if not item.startswith("data.source")]
    cfg = compose("train", [*config, "data=folder", "data.root='my knees'", "explain=none", "out=o"])
    train(cfg)
    record = checkpoint.read("o/checkpoints/best.ckpt").record
    assert record.data_settings["root"] == str(place / "my knees")
    assert record.caveats == ("no pretrained weights",)
    [run] = runs_in(place)
    assert run.data.params["data.root"] == str(place / "my knees")


def test_what_a_run_was_started_with_names_its_places_in_full(place):
    typed = ["data=folder", "data.root=knees", "tracking.uri=sqlite:///x.db"]
    cfg = compose("train", typed)
    module.name_places(cfg)
    run_folder.remember(place / "o", [*typed, "++seed=1"], cfg)
    kept = run_folder.recorded(place / "o")
    assert kept == ["data=folder", f"data.root={place}/knees", f"tracking.uri=sqlite:///{place}/x.db", "++seed=1"]


@pytest.mark.slow
def test_two_processes_make_one_run(place, tiny, with_package, tmp_path):
    devices = ["trainer.devices=2", "trainer.strategy=ddp_find_unused_parameters_true", "explain=none", "out=o"]
    command = [sys.executable, "-m", "koa_lightning.train", *tiny.overrides, *devices]
    done = subprocess.run(command, capture_output=True, text=True, env={**with_package, "OMP_NUM_THREADS": "1"})
    assert done.returncode == outcome.DONE, done.stderr
    lines = done.stdout.splitlines()
    assert len([line for line in lines if line.startswith("epoch ")]) == 2
    assert len([line for line in lines if line.startswith("best checkpoint: ")]) == 1
    assert [run.info.status for run in runs_in(place)] == ["FINISHED"]
    last = torch.load("o/checkpoints/last.ckpt", weights_only=True)
    # 56 knees, 28 a process, 3 batches of 8: the schedule ends where the training does
    assert last["global_step"] == last["lr_schedulers"][0]["last_epoch"] == 6
    assert last["optimizer_states"][0]["param_groups"][0]["lr"] < 1e-4
