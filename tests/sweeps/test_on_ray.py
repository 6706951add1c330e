"""Sweeps on Ray: two nodes on this machine, one of which is killed."""

import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from koa_lightning.errors import InputError
from koa_lightning.sweeps import on_ray

ray = pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"num_cpus": "two"}, "hydra.launcher.num_cpus=two: must be a number of at least 0"),
        ({"num_gpus": -1}, "hydra.launcher.num_gpus=-1: must be"),
        ({"max_retries": None}, "hydra.launcher.max_retries=None: must be"),
    ],
)
def test_settings_are_checked(changed, line):
    given = {"address": None, "num_cpus": 1, "num_gpus": None, "max_retries": 3}
    assert on_ray.settings(given) == on_ray.Settings(None, 1.0, None, 3)
    with pytest.raises(InputError, match=line):
        on_ray.settings(given | changed)


def test_what_a_job_asks_for_follows_from_its_devices():
    pretended = SimpleNamespace(cluster_resources=lambda: {"GPU": 4.0})
    config = OmegaConf.create({"trainer": {"accelerator": "gpu", "devices": 2}})
    assert on_ray._gpus(pretended, config, None) == 2
    assert on_ray._gpus(pretended, config, 0.5) == 0.5
    assert on_ray._gpus(pretended, {}, None) == 0
    assert on_ray._gpus(SimpleNamespace(cluster_resources=dict), config, None) == 0
    config.trainer.devices = -1
    with pytest.raises(InputError, match=r"trainer.devices=-1: a job of Ray needs a number"):
        on_ray._gpus(pretended, config, None)


@pytest.mark.parametrize(
    ("address", "line"),
    [
        (
            "127.0.0.1:1",
            r"hydra.launcher.address=127.0.0.1:1: does not answer \(.*refused\); start it: ray start --head",
        ),
        ("somewhere", "hydra.launcher.address=somewhere: must be auto, null, or HOST:PORT"),
    ],
)
def test_an_address_that_does_not_answer_is_one_line(address, line):
    with pytest.raises(InputError, match=line):
        on_ray._connected(address)


def test_a_sweep_without_its_cluster_ends_with_2_and_begins_no_trial(place, launch):
    typed = [
        "-m",
        "sweep=grid",
        "seed=1,2",
        "trainer=cpu",
        "hydra/launcher=ray",
        "hydra.launcher.address='127.0.0.1:1'",
    ]
    ended = launch("train", *typed)
    assert ended.code == 2
    assert [line for line in ended.err if "error" in line] == [ended.err[-1]], ended.err
    assert "does not answer" in ended.err[-1]


@pytest.fixture
def two_nodes(monkeypatch):
    """A Ray cluster of two nodes with a core each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    second = cluster.add_node(**small)
    yield cluster, second
    cluster.shutdown()


@pytest.mark.slow
def test_a_node_that_is_killed_costs_its_trial_a_repeat_and_nothing_else(
    place, tiny, with_package, monkeypatch, request
):
    for name, value in {**with_package, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)  # the nodes import the package as this process does
    cluster, second = request.getfixturevalue("two_nodes")
    typed = ["sweep=grid", "seed=1,2", "sweep.n_jobs=2", "hydra/launcher=ray", "trainer.max_epochs=6", "explain=none",
             f"hydra.launcher.address='{cluster.address}'", "sweep.name=mine"]  # fmt: skip
    command = [sys.executable, "-m", "koa_lightning.train", "-m", *tiny.overrides, *typed]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    logs = [place / f"outputs/sweep-mine/{n}/log.txt" for n in (0, 1)]
    until = time.monotonic() + 300
    while time.monotonic() < until and not all(log.is_file() and "epoch 0/" in log.read_text() for log in logs):
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.2)
    cluster.remove_node(second, allow_graceful=False)
    said = sweep.communicate(timeout=400)[0]
    assert sweep.returncode == 0, said + "".join(log.read_text() for log in logs)
    assert re.search(r"2 of 2|2 complete", said), said
    assert sorted("resuming" in log.read_text() for log in logs) == [False, True]
    histories = [pd.read_csv(log.with_name("history.csv")) for log in logs]
    assert [history["epoch"].max() for history in histories] == [5, 5]
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
