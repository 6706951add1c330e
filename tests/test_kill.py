"""Runs that are ended from outside, for real, and continue: in the end they are the run that was not ended."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

pytestmark = pytest.mark.usefixtures("blank_figures")

SECONDS = 300  # a run that takes longer hangs
# Trains until the first best checkpoint is half written, which nobody outside could wait for: it takes milliseconds.
DIES_WRITING = """
import os, runpy, signal
replace = os.replace
def die(source, target, **more):
    if os.fspath(target).endswith("best.ckpt"):
        os.truncate(source, os.path.getsize(source) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target, **more)
os.replace = die
runpy.run_module("koa_lightning.train", run_name="__main__", alter_sys=True)
"""


class Training:
    """A process that trains in a folder."""

    def __init__(self, folder, environment, *overrides, program=("-m", "koa_lightning.train")):
        command = [sys.executable, *program, *overrides]
        self.log = (folder / f"log-{time.monotonic_ns()}").open("w+")
        self.folder = folder
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self.log, stderr=subprocess.STDOUT, text=True
        )

    def lines(self):
        self.log.seek(0)
        return self.log.read().splitlines()

    def wait_for(self, happened):
        end = time.monotonic() + SECONDS
        while not happened():
            assert self.process.poll() is None, self.lines()
            assert time.monotonic() < end, self.lines()
            time.sleep(0.002)

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return os.environ | {
        "OMP_NUM_THREADS": "1",  # the number of threads decides in which order numbers are added
        "KOA_CACHE": str(tmp_path_factory.mktemp("cache")),
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture(scope="module")
def options(tiny):
    return [*tiny.overrides, "trainer.max_epochs=4", "explain=none"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, environment, options):
    """What comes of a run that nothing happens to; it runs beside the first of the others."""
    training = Training(tmp_path_factory.mktemp("whole"), environment, *options, "tracking=none")
    return SimpleNamespace(training=training, result=lambda: (training.end(), result(training.folder))[1])


@pytest.fixture
def start(tmp_path, environment, options, ready_database):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(ready_database, tmp_path / "mlruns")
    begun = []

    def begin(*overrides, **more):
        begun.append(Training(tmp_path, environment, *overrides, **more))
        return begun[-1]

    yield begin
    for training in begun:
        training.process.kill()
        training.process.wait()


def result(folder):
    """The history of the only run in a folder, and its best metrics."""
    [run] = (folder / "outputs").iterdir()
    done = json.loads((run / "done.json").read_text())
    return (run / "history.csv").read_text(), {k: v for k, v in done.items() if k not in ("checkpoint", "run_id")}


def runs(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    return client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])


def die(training, moment):
    """Kill it when a line is printed, or a file appears."""
    if moment.startswith("epoch "):
        training.wait_for(lambda: any(line.startswith(moment) for line in training.lines()))
    else:
        training.wait_for(lambda: any(training.folder.glob(f"outputs/*/{moment}")))
    assert training.end(signal.SIGKILL) == -signal.SIGKILL


def check_a_killed_run_goes_on(start, options, whole, moments):
    victim = start(*options)
    for moment in moments:
        die(victim, moment)
        victim = start("ckpt=last")
    check_it_ends_as(whole, victim)


def check_it_ends_as(whole, victim):
    folder = victim.folder
    assert victim.end() == 0, victim.lines()
    assert result(folder) == whole.result()
    [run] = runs(folder)
    assert run.info.status == "FINISHED"
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    steps = {row.step for row in client.get_metric_history(run.info.run_id, "val/quadratic_kappa")}
    assert steps == {0, 1, 2, 3}


@pytest.mark.slow
def test_a_killed_run_continues_as_if_nothing_had_happened(start, options, whole):
    check_a_killed_run_goes_on(start, options, whole, ["epoch 1/3"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "moments",
    [
        ["checkpoints/last.ckpt"],  # before the first epoch
        ["checkpoints/best.ckpt"],
        ["epoch 0/3", "epoch 1/3", "epoch 2/3"],
        ["epoch 3/3"],
        ["figures/learning_curves.png"],  # all epochs are done, the end is not
    ],
)
def test_a_run_killed_at_any_moment(start, options, whole, moments):
    check_a_killed_run_goes_on(start, options, whole, moments)


@pytest.mark.slow
def test_a_run_killed_while_a_checkpoint_is_written(start, options, whole):
    victim = start(*options, program=("-c", DIES_WRITING))
    assert victim.end() == -signal.SIGKILL, victim.lines()
    [checkpoints] = victim.folder.glob("outputs/*/checkpoints")
    assert {file.name for file in checkpoints.iterdir()} == {"last.ckpt", "best.ckpt.part"}
    check_it_ends_as(whole, start("ckpt=last"))


@pytest.mark.slow
def test_ctrl_c(start, options, whole):
    victim = start(*options)
    folder = victim.folder
    victim.wait_for(lambda: any(line.startswith("epoch 1/3") for line in victim.lines()))
    assert victim.end(signal.SIGINT) == 130
    [run] = runs(folder)
    assert run.info.status == "KILLED"
    last = victim.lines()[-1]
    assert last.startswith("interrupted; resume with: python -m koa_lightning.train ckpt=")
    assert not any("Traceback" in line for line in victim.lines())
    resumed = start(*shlex.split(last)[shlex.split(last).index("koa_lightning.train") + 1 :])
    assert resumed.end() == 0, resumed.lines()
    assert result(folder) == whole.result()
    assert [(found.info.run_id, found.info.status) for found in runs(folder)] == [(run.info.run_id, "FINISHED")]


@pytest.mark.slow
def test_ctrl_c_before_the_first_epoch(start, options):
    victim = start(*options)
    victim.wait_for(lambda: any((victim.folder / "outputs").glob("*/.lock")))
    assert victim.end(signal.SIGINT) == 130
    assert victim.lines()[-1] in ("error: interrupted", "interrupted; no epoch had begun, start again")
    assert not any("Traceback" in line for line in victim.lines())
