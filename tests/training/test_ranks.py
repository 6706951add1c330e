"""A training on two processes of a CPU: what it computes, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import psutil
import pytest
import torch
from mlflow import MlflowClient

from koa_lightning.config import outcome
from koa_lightning.errors import InputError, LostProcessError
from koa_lightning.training import ranks

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=fp32", "data.batch_size=4"]
QUIET = ["explain=none", "augment=none", "model.drop_rate=0", "model.drop_path_rate=0"]


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """Let every further process be a line of shell."""

    def begin(line):
        def _begin(rank, log, packed):
            with log.open("wb") as file:
                return subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE, stdout=file, stderr=file)

        monkeypatch.setattr(ranks, "_begin", _begin)
        return lambda lost=lambda: None: ranks.Ranks(2, {}, tmp_path, lost)

    return begin


def test_variables_and_logs_are_as_before_in_the_end(pretended, tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "12")
    with ranks.together(2, pretended("echo hello")):
        assert os.environ["LOCAL_RANK"] == "0" and os.environ["MASTER_PORT"] != "12"
    assert "LOCAL_RANK" not in os.environ and os.environ["MASTER_PORT"] == "12"
    assert list(tmp_path.iterdir()) == []


def test_one_device_and_a_further_process_begin_none(monkeypatch):
    with ranks.together(1, lambda: pytest.fail("began")):
        assert "LOCAL_RANK" not in os.environ
    monkeypatch.setenv("LOCAL_RANK", "1")
    with ranks.together(2, lambda: pytest.fail("began")):
        assert os.environ["LOCAL_RANK"] == "1"


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("kill -9 $$", LostProcessError, "process 1 of processes 0 to 1 was killed by signal 9"),
        ("exit 3", LostProcessError, r"ended with exit code 3, see .*\.rank_1\.log"),
        ("echo 'error: the loss became nan; lower it'; exit 2", InputError, "^the loss became nan; lower it$"),
    ],
)
def test_what_another_process_died_of_is_what_the_training_failed_of(line, kind, words, pretended, tmp_path):
    with pytest.raises(kind, match=words), ranks.together(2, pretended(line)):
        time.sleep(0.5)
        raise RuntimeError("Connection closed by peer")
    assert (tmp_path / ".rank_1.log").exists()


def test_an_error_of_its_own_stays_what_it_is(pretended):
    with pytest.raises(InputError, match="mine"), ranks.together(2, pretended("sleep 6000")):
        raise InputError("mine")


def test_a_process_that_waits_for_a_dead_one_is_ended(pretended, monkeypatch, capsys):
    ended, closed = threading.Event(), []
    monkeypatch.setattr(ranks, "GRACE", 0.2)
    monkeypatch.setattr(ranks.os, "_exit", lambda code: closed.append(code) or ended.set())
    begin = pretended("kill -9 $$")
    with ranks.together(2, lambda: begin(lambda: closed.append("run"))):
        assert ended.wait(20)
    assert closed == ["run", outcome.PARTLY]
    assert "was killed by signal 9" in capsys.readouterr().err


def of_run(place, overrides, environment, wait_for=None):
    """Start a training; return it once it has printed a line, or else when it ended."""
    command = [sys.executable, "-m", "koa_lightning.train", *overrides]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    if wait_for is None:
        process.said = process.communicate()[0]
    else:
        process.said = "".join(_until(process, wait_for))
    return process


def _until(process, word):
    for line in process.stdout:
        yield line
        if line.startswith(word):
            return


@pytest.mark.slow
def test_two_processes_train_as_one_with_their_batches_together(place, tiny, with_package):
    shared = [*tiny.overrides, *QUIET, "data.source.n_patients=43"]
    one = of_run(place, [*shared, "tracking=none", "out=one"], with_package)
    two = of_run(place, [*shared, *TWO, "trainer.sync_batchnorm=true", "out=two"], with_package)
    assert (one.returncode, two.returncode) == (0, 0), one.said + two.said
    assert "2 devices: 2 x 4 = 8 knees per step, learning rate 0.003, 13 batch norms over all devices" in two.said
    tables = [pd.read_csv(f"{name}/history.csv").set_index(["epoch", "name"])["value"] for name in ("one", "two")]
    pd.testing.assert_series_equal(*tables, rtol=2e-3, atol=2e-3)
    files = [torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("one", "two")]
    for name in ("state_dict", "current_model_state"):  # of the moving average, and of the training
        for key, value in files[0][name].items():
            torch.testing.assert_close(value, files[1][name][key], rtol=0.02, atol=0.02)
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert not list((place / "two").glob(".rank*"))


@pytest.mark.slow
def test_killed_and_resumed_two_processes_have_the_same_numbers(place, tiny, with_package):
    shared = [
        *tiny.overrides,
        *TWO,
        "explain=none",
        "tracking=none",
        "trainer.max_epochs=3",
        "optimizer.scale_lr=linear",
    ]
    whole = of_run(place, [*shared, "out=whole"], with_package)
    assert "learning rate 0.003 scaled (linear) to 0.006" in whole.said, whole.said
    killed = of_run(place, [*shared, "out=killed"], with_package, "epoch 0/")
    others = psutil.Process(killed.pid).children()
    killed.kill()
    killed.communicate()
    assert len(others) == 1 and not psutil.wait_procs(others, timeout=30)[1]  # it ends with the first
    again = of_run(place, ["ckpt=killed/checkpoints/last.ckpt"], with_package)
    assert again.returncode == 0 and "resuming" in again.said, again.said
    assert (place / "whole/history.csv").read_text() == (place / "killed/history.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "of_first", "code", "line"),
    [
        (signal.SIGKILL, False, 1, "error: process 1 of processes 0 to 1 was killed by signal 9"),
        (signal.SIGTERM, True, 143, "interrupted; resume with: python -m koa_lightning.train ckpt="),
    ],
)
def test_a_process_that_dies_ends_all(number, of_first, code, line, place, tiny, with_package):
    endless = [*tiny.overrides, *TWO, "explain=none", "trainer.max_epochs=500", "out=o"]
    run = of_run(place, endless, with_package, "epoch 0/")
    [other] = psutil.Process(run.pid).children()
    (psutil.Process(run.pid) if of_first else other).send_signal(number)
    said = run.communicate(timeout=30)[0]
    assert run.returncode == code, said
    assert next(each for each in said.splitlines() if each.startswith(("error", "interrupted"))).startswith(line)
    assert "Traceback" not in said
    assert not psutil.wait_procs([other], timeout=30)[1]
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    [found] = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert found.info.status == ("KILLED" if of_first else "FAILED")
