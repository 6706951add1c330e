"""Signals that end a command, for real: each run is marked as killed, and continues as if nothing had happened."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from koa_lightning.sweeps import study

pytestmark = pytest.mark.slow
SECONDS = 300  # what takes longer hangs
END_SECONDS = 10 * float(os.environ.get("SLOW_MACHINE", "1"))
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
         "SLURM_JOB_NAME": "knees", "SLURM_NODELIST": "localhost"}  # fmt: skip


class Command:
    """A command that runs in a folder."""

    def __init__(self, folder, environment, name, *words):
        self.folder, self.log = folder, folder / f"log-{time.monotonic_ns()}"
        self.file = self.log.open("w")
        command = [sys.executable, "-m", f"koa_lightning.{name}", *words]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=self.file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # which nohup of the tests has ignored
        )

    def lines(self):
        return self.log.read_text().splitlines()

    def wait_for(self, happened):
        end = time.monotonic() + SECONDS
        while not happened():
            assert self.process.poll() is None, self.lines()
            assert time.monotonic() < end, self.lines()
            time.sleep(0.005)

    def wait_for_line(self, start):
        self.wait_for(lambda: any(line.startswith(start) for line in self.lines()))

    def end(self, number=None):
        """Send a signal; return the exit code and the seconds that it took."""
        start = time.monotonic()
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(SECONDS), time.monotonic() - start

    def killed(self, number):
        code, seconds = self.end(number)
        assert code == CODES[number], self.lines()
        assert seconds < END_SECONDS, (seconds, self.lines())
        assert not any("Traceback" in line for line in self.lines()), self.lines()

    def resume_line(self):
        """What `resume:` names, as arguments."""
        [line] = [line for line in self.lines() if "resume with: " in line][-1:]
        return shlex.split(line.split("resume with: ")[1])[2:]


@pytest.fixture
def begin(tmp_path, with_package, ready_database, tmp_path_factory):
    (tmp_path / "mlruns").mkdir()
    shutil.copy(ready_database, tmp_path / "mlruns")
    cache = tmp_path_factory.getbasetemp() / "cache"
    environment = with_package | {"OMP_NUM_THREADS": "1", "KOA_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    begun = []

    def start(name, *words, **variables):
        begun.append(Command(tmp_path, environment | variables, name, *words))
        return begun[-1]

    yield start
    for command in begun:
        command.process.kill()
        command.process.wait()
        command.file.close()


@pytest.fixture
def options(tiny):
    return [*tiny.overrides, "trainer.max_epochs=4", "explain=none"]


def statuses(folder):
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("koa-lightning")
    return [run.info.status for run in client.search_runs([experiment.experiment_id])] if experiment else []


def history(folder):
    [file] = folder.glob("outputs/*/history.csv")
    return file.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    """The history of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("whole")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [*tiny.overrides, "trainer.max_epochs=4", "explain=none", "tracking=none"]
    command = Command(folder, environment | {"KOA_CACHE": str(folder / "cache")}, "train", *words)
    assert command.end()[0] == 0, command.lines()
    command.file.close()
    return history(folder)


@pytest.mark.parametrize(
    ("number", "slurm"),
    [
        (signal.SIGTERM, False),
        (signal.SIGHUP, False),
        (signal.SIGUSR1, False),
        (signal.SIGTERM, True),
        (signal.SIGUSR1, True),
    ],
)
def test_a_training(begin, options, whole, number, slurm):
    victim = begin("train", *options, **(SLURM if slurm else {}))
    victim.wait_for_line("epoch 1/3")
    victim.killed(number)
    assert statuses(victim.folder) == ["KILLED"]
    assert not list(victim.folder.rglob("hpc_ckpt*"))
    resumed = begin(*(victim.resume_line()[0].removeprefix("koa_lightning."), *victim.resume_line()[1:]))
    assert resumed.end()[0] == 0, resumed.lines()
    assert (history(victim.folder), statuses(victim.folder)) == (whole, ["FINISHED"])


@pytest.mark.parametrize("seconds", [0.5, 2, 4])
def test_a_training_that_has_hardly_begun(begin, options, seconds):
    victim = begin("train", *options)
    time.sleep(seconds)
    code, _ = victim.end(signal.SIGTERM)
    assert code in (143, -signal.SIGTERM)  # the second before Python has read this package
    assert "RUNNING" not in statuses(victim.folder)
    assert not any("Traceback" in line for line in victim.lines()), victim.lines()


def test_a_training_that_draws_its_last_figures(begin, options, whole):
    victim = begin("train", *options)
    victim.wait_for_line("epoch 3/3")
    victim.killed(signal.SIGTERM)
    resumed = begin("train", *victim.resume_line()[1:])
    assert resumed.end()[0] == 0, resumed.lines()
    assert (history(victim.folder), statuses(victim.folder)) == (whole, ["FINISHED"])


def test_a_training_killed_at_its_start_does_not_run_for_ever(begin, options):
    victim = begin("train", *options)
    victim.wait_for(lambda: "RUNNING" in statuses(victim.folder))
    victim.end(signal.SIGKILL)
    assert statuses(victim.folder) == ["RUNNING"]
    assert begin("compare", "nosuch").end()[0] == 2
    assert statuses(victim.folder) == ["KILLED"]


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGTERM, 1), (signal.SIGHUP, 2), (signal.SIGUSR1, 2)])
def test_a_sweep(begin, options, number, jobs):
    more = ["sweep=tpe", "sweep.trials=2", f"sweep.n_jobs={jobs}"]
    words = ["-m", *options, *more, "optimizer.lr=interval(1e-4,1e-2)", "sweep.name=mine"]
    victim = begin("train", *words)
    victim.wait_for(lambda: list(victim.folder.glob("outputs/*/*/history.csv")))
    victim.killed(number)
    assert set(statuses(victim.folder)) == {"KILLED"}
    resumed = begin("train", *victim.resume_line()[1:])
    assert resumed.end()[0] == 0, resumed.lines()
    found = optuna.load_study(
        study_name="mine", storage=study.open_storage(f"sqlite:///{victim.folder}/mlruns/sweeps.db")
    )
    assert sum(trial.state.name == "COMPLETE" for trial in found.trials) == 2


def test_hydras_own_grid(begin, options):
    victim = begin("train", "-m", *options, "seed=1,2", "out=grid")
    victim.wait_for_line("epoch 1/3")
    victim.killed(signal.SIGTERM)
    assert set(statuses(victim.folder)) == {"KILLED"}
    assert not (victim.folder / "grid/1").exists()


@pytest.mark.parametrize(("number", "parallel"), [(signal.SIGTERM, 1), (signal.SIGHUP, 2), (signal.SIGUSR1, 1)])
def test_a_cross_validation(begin, options, number, parallel):
    victim = begin("cross_validate", *options, "data.folds=2", f"parallel={parallel}")
    victim.wait_for(lambda: list(victim.folder.glob("outputs/*/fold_*/history.csv")))
    victim.killed(number)
    assert set(statuses(victim.folder)) == {"KILLED"}
    resumed = begin("cross_validate", *victim.resume_line()[1:])
    assert resumed.end()[0] == 0, resumed.lines()
    assert set(statuses(victim.folder)) == {"FINISHED"}


def test_a_signal_to_every_process_at_once(begin, options):
    """As Slurm sends it, and a terminal that is closed."""
    victim = begin("cross_validate", *options, "data.folds=2")
    victim.wait_for(lambda: list(victim.folder.glob("outputs/*/fold_*/history.csv")))
    for folder in Path("/proc").glob("[0-9]*"):
        if session(folder.name) == victim.process.pid != int(folder.name):
            os.kill(int(folder.name), signal.SIGTERM)
    victim.killed(signal.SIGTERM)
    assert set(statuses(victim.folder)) == {"KILLED"}


def session(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return None


@pytest.mark.parametrize("out", [[], ["out=here"]])
def test_a_slurm_job_is_requeued_and_continues(begin, options, whole, out, tmp_path):
    """Under `--signal=USR1@120` and KOA_REQUEUE=1, with a stand-in for the cluster's programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("scontrol", "srun"):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/asked\n')
        (programs / name).chmod(0o755)
    cluster = SLURM | {"PATH": f"{programs}:{os.environ['PATH']}", "KOA_REQUEUE": "1"}
    victim = begin("train", *options, *out, **cluster)
    victim.wait_for_line("epoch 1/3")
    victim.killed(signal.SIGUSR1)
    assert (tmp_path / "asked").read_text() == "scontrol requeue 7\n"
    assert victim.lines()[-1] == "job 7 is in the queue again"
    again = begin("train", *options, *out, **cluster, SLURM_RESTART_COUNT="1")
    assert again.end()[0] == 0, again.lines()
    assert statuses(tmp_path) == ["FINISHED"]
    [file] = [*tmp_path.glob("outputs/*/history.csv"), *tmp_path.glob("here/history.csv")]
    assert file.read_text() == whole
    last = begin("train", *options, *out, **cluster, SLURM_RESTART_COUNT="2")
    assert last.end()[0] == 0 and "finished before the job was started again" in last.lines()[-1]
