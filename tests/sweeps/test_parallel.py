"""Sweeps as processes of their own: killed for real, and several jobs at once wherever Hydra may run them."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from koa_lightning.sweeps import study

SECONDS = 300  # what takes longer hangs
SPACE = ["x=interval(-3,3)", "y=range(0,6)"]


def loaded(place, name="mine", storage=None):
    storage = study.open_storage(study.url(storage or f"sqlite:///{place}/mlruns/sweeps.db"))
    return optuna.load_study(study_name=name, storage=storage)


def wait_for(process, happened):
    end = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, process.lines()
        assert time.monotonic() < end, process.lines()
        time.sleep(0.01)


def lines_of(file):
    return file.read_text().splitlines() if file.exists() else []


def outcome(found):
    """The trials that count, whatever was interrupted between them."""
    return [(t.params, t.values, t.state.name) for t in found.trials if not t.user_attrs.get("interrupted")]


def check_killed(process, place, kills, *more):
    typed = [*SPACE, "sweep.trials=6", "sweep.startup_trials=3", *more]
    whole = process(*typed, "sweep.name=whole", "sweep.storage=sqlite:///whole.db")
    assert whole.wait(SECONDS) == 0, whole.lines()
    (place / "began.txt").unlink()
    for kill in range(kills):
        victim = process(*typed, "sweep.name=mine", NAP="0.05")
        n = len(lines_of(place / "began.txt"))
        wait_for(victim, lambda n=n, kill=kill: len(lines_of(place / "began.txt")) > n + kill % 2)
        time.sleep(0.07 * kill)  # at another moment each time
        victim.send_signal(signal.SIGKILL)
        assert victim.wait(SECONDS) == -signal.SIGKILL
    last = process(*typed, "sweep.name=mine")
    assert last.wait(SECONDS) == 0, last.lines()
    found = loaded(place)
    assert outcome(found) == outcome(loaded(place, "whole", "sqlite:///" + str(place / "whole.db")))
    lost = [t for t in found.trials if t.user_attrs.get("interrupted")]
    assert len(lost) <= kills  # at most the one under way
    assert all(t.state == TrialState.FAIL for t in lost)
    assert len(lines_of(place / "began.txt")) <= 6 + kills
    return last


@pytest.mark.slow
def test_killed_in_the_middle_and_gone_on(process, tmp_path):
    check_killed(process, tmp_path, 1)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "processes"])
def test_killed_again_and_again(launcher, process, tmp_path):
    last = check_killed(process, tmp_path, 4, f"hydra/launcher={launcher}")
    again = process(*SPACE, "sweep.trials=6", "sweep.startup_trials=3", f"hydra/launcher={launcher}", "sweep.name=mine")
    assert again.wait(SECONDS) == 0
    assert again.lines()[-1] == last.lines()[-1]


@pytest.mark.slow
def test_ctrl_c_prints_the_line_that_continues(process, tmp_path):
    victim = process(*SPACE, "sweep.trials=3", "hydra/launcher=processes", NAP="0.5")
    wait_for(victim, lambda: lines_of(tmp_path / "began.txt"))
    victim.send_signal(signal.SIGINT)
    assert victim.wait(SECONDS) == 130
    line = victim.lines()[-1]
    assert line.startswith("interrupted; resume with: python program.py -m hydra/")
    assert not any("Traceback" in line for line in victim.lines())


@pytest.mark.slow
def test_a_job_that_dies_takes_no_other_along(process, tmp_path):
    ended = process("kind=a,killed", "y=1,2", "sweep.method=grid", "sweep.trials=null", "hydra/launcher=processes")
    assert ended.wait(SECONDS) == 1, ended.lines()
    name = ended.lines()[0].split()[1].rstrip(":")
    states = [(t.params["kind"], t.state.name, t.user_attrs.get("error")) for t in loaded(tmp_path, name).trials]
    died = "the process was killed by signal 9"
    assert states[:2] == [("a", "COMPLETE", None)] * 2
    assert [state for _, state, _ in states[2:]] == ["FAIL"] * 2
    assert all(error.startswith(died) for _, _, error in states[2:])


def check_together(ended, place, n, storage=None):
    assert ended.wait(SECONDS) == 0, ended.lines()
    found = loaded(place, storage=storage)
    assert len(found.trials) == n
    assert {t.state for t in found.trials} == {TrialState.COMPLETE}
    assert all(len(t.intermediate_values) == 4 for t in found.trials)
    assert len({tuple(t.params.items()) for t in found.trials}) == n
    began = [t.datetime_start for t in found.trials]
    assert any(t.datetime_complete > began[i + 1] for i, t in enumerate(found.trials[:-1]))  # at the same time
    assert not any("locked" in line for line in ended.lines())


@pytest.mark.slow
def test_four_at_once_on_sqlite(process, tmp_path):
    typed = [*SPACE, "sweep.trials=40", "sweep.n_jobs=4", "hydra/launcher=processes", "sweep.name=mine"]
    check_together(process(*typed), tmp_path, 40)
    with sqlite3.connect(tmp_path / "mlruns/sweeps.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_four_at_once_on_postgresql(process, tmp_path, postgres_url):
    typed = [*SPACE, "sweep.trials=40", "sweep.n_jobs=4", "hydra/launcher=processes", "sweep.name=mine"]
    ended = process(*typed, KOA_SWEEP_STORAGE=postgres_url)
    check_together(ended, tmp_path, 40, postgres_url)
    password = postgres_url.split(":")[2].split("@")[0]
    written = [file for file in tmp_path.rglob("*") if file.is_file() and password.encode() in file.read_bytes()]
    assert written == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [("joblib", "hydra_joblib_launcher"), ("submitit_local", "hydra_submitit_launcher"), ("ray", "hydra_ray_launcher")],
)
def test_other_launchers(launcher, package, process, tmp_path):
    pytest.importorskip(f"hydra_plugins.{package}", reason='needs pip install "koa-lightning[launchers]"')
    typed = [*SPACE, "sweep.trials=4", "sweep.n_jobs=2", "sweep.name=mine", f"hydra/launcher={launcher}"]
    check_together(process(*typed, RAY_ENABLE_UV_RUN_RUNTIME_ENV="0"), tmp_path, 4)


@pytest.mark.slow
def test_two_sweeps_of_one_name_at_once(process, tmp_path):
    first = process(*SPACE, "sweep.trials=3", "sweep.name=mine", NAP="1")
    wait_for(first, lambda: lines_of(tmp_path / "began.txt"))
    second = process(*SPACE, "sweep.trials=3", "sweep.name=mine")
    assert second.wait(SECONDS) == 2
    assert second.lines() == ["error: sweep.name=mine: is running already, in another process; wait for it, or stop it"]
    assert os.kill(first.pid, 0) is None


@pytest.mark.slow
def test_real_trainings_killed_and_pruned(tmp_path, with_package, ready_database, tiny):
    """Trainings, the first one killed; each is pruned after its first epoch, which is no failure."""
    (tmp_path / "mlruns").mkdir()
    shutil.copy(ready_database, tmp_path / "mlruns")
    cache = {"KOA_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", study.STORAGE_VARIABLE: ""}
    search = ["sweep=grid", "sweep.name=mine", "optimizer.lr=choice(1e-3,2e-3)", "sweep/pruner=threshold"]
    command = [sys.executable, "-m", "koa_lightning.train", "-m", *tiny.overrides, "explain=none", *search]
    command += ["sweep.pruner.lower=2", "sweep.pruner.n_warmup_steps=0"]
    options = {"cwd": tmp_path, "env": with_package | cache, "text": True}
    with (tmp_path / "log").open("w") as log:
        victim = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, **options)
        victim.lines = lambda: lines_of(tmp_path / "log")
        wait_for(victim, lambda: (tmp_path / "outputs/sweep-mine/0/checkpoints/last.ckpt").exists())
        victim.kill()
        victim.wait()
    ended = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS, **options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = loaded(tmp_path)
    assert [t.state.name for t in found.trials] == ["FAIL", "PRUNED", "PRUNED"]
    assert [list(t.intermediate_values) for t in found.trials[1:]] == [[0], [0]]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("koa-lightning").experiment_id
    runs = client.search_runs([experiment], "tags.`sweep.trial` != ''", order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED", "FINISHED"]
    assert [run.data.tags.get("sweep.state") for run in runs] == [None, "pruned", "pruned"]
    assert len({run.data.tags["mlflow.parentRunId"] for run in runs}) == 1
