"""Sweeps on Slurm, by a stand-in on the path: preempted and requeued, or not taken at all."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from mlflow import MlflowClient

from koa_lightning.sweeps.refused import refused

pytest.importorskip("submitit")


class FailedJobError(Exception):
    """As submitit's."""


def test_what_a_cluster_says_is_one_line():
    error = FailedJobError("Command failed\nsbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: and more")
    assert str(refused("slurm", error)) == (
        "hydra/launcher=slurm: the cluster did not accept the jobs: sbatch: error: QOSMaxSubmitJobPerUserLimit; "
        "type the command again later, it resumes"
    )
    assert "there is no Slurm here" in str(refused("slurm", RuntimeError('Could not detect "srun", are you indeed')))
    assert refused("slurm", ValueError("a fault")) is None


@pytest.mark.slow  # in a process in which nothing else has run: submitit pickles what other tests have imported
@pytest.mark.parametrize("kind", [["sweep=grid"], []])
def test_a_full_queue_and_no_slurm_are_one_line_each(kind, place, slurm, launch, monkeypatch):
    typed = ["-m", *kind, "seed=1,2", "trainer=cpu", "hydra/launcher=slurm_cpu"]
    (slurm / "full").touch()
    ended = launch("train", *typed)
    assert ended.code == 2
    assert [line for line in ended.err if line.startswith("error")] == [
        "error: hydra/launcher=slurm_cpu: the cluster did not accept the jobs: sbatch: error: "
        "QOSMaxSubmitJobPerUserLimit; type the command again later, it resumes"
    ]
    monkeypatch.setenv("PATH", os.environ["PATH"].split(":", 1)[1])
    ended = launch("train", *typed)
    assert ended.code == 2
    assert ended.err[-1].startswith("error: hydra/launcher=slurm_cpu: there is no Slurm here (no srun)")


@pytest.mark.slow
def test_a_sweep_that_is_preempted_and_requeued_loses_nothing(place, tiny, slurm, with_package):
    typed = ["sweep=grid", "seed=1,2", "sweep.n_jobs=2", "hydra/launcher=slurm_cpu", "hydra.launcher.partition=short",
             "hydra.launcher.signal_delay_s=60", "trainer.max_epochs=4", "explain=none"]  # fmt: skip
    command = [sys.executable, "-m", "koa_lightning.train", "-m", *tiny.overrides, *typed]
    sweep = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**with_package, **{k: os.environ[k] for k in ("PATH", "STAND_IN")}, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    preempted = None
    while sweep.poll() is None and preempted is None:
        for output in slurm.glob("*_0.out"):
            if "epoch 0/" in output.read_text():
                preempted = output.stem
                os.kill(json.loads((slurm / f"{preempted}.json").read_text())["pid"], signal.SIGUSR2)
        time.sleep(0.1)
    said = sweep.communicate(timeout=600)[0]
    log = (slurm / "log.txt").read_text()
    assert sweep.returncode == 0, said + log + "".join(each.read_text() for each in slurm.glob("*.out"))
    assert f"scontrol requeue {preempted}" in log and f"{preempted} begins, restart 1" in log
    assert "resuming" in (slurm / f"{preempted}.out").read_text()
    flags = json.loads((slurm / "flags.json").read_text())
    assert {
        "partition": "short",
        "mem": "32GB",
        "cpus-per-task": "8",
        "time": "240",
        "signal": "USR2@60",
    }.items() <= flags.items()
    assert "requeue" in flags and "gpus-per-node" not in flags
    [folder] = place.glob("outputs/sweep-*")
    assert {pd.read_csv(folder / f"{n}/history.csv")["epoch"].max() for n in (0, 1)} == {3}
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3  # of the sweep, and of its two trainings
