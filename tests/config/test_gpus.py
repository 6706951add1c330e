"""Pretended GPUs: which a process may use, and a pool that gives each job its own."""

import os
import subprocess
import sys
from collections import Counter

import pytest

from koa_lightning.config import gpus
from koa_lightning.errors import InputError

FOUR = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-0000-0000-0000-000000000001)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaaaaaa-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbbbbbbb-0000-0000-0000-000000000000)
"""


@pytest.fixture(autouse=True)
def pool(tmp_path, monkeypatch):
    monkeypatch.setenv(gpus.POOL_VARIABLE, str(tmp_path / "pool"))
    monkeypatch.setenv(gpus.VARIABLE, "0,1,2,3")
    monkeypatch.setattr(gpus, "_kept", {})
    return tmp_path / "pool"


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("0,1", ["0", "1"]), ("", []), ("-1", []), ("2,-1,3", ["2"]), ("1, 1", ["1"]), ("NoDevFiles", ["NoDevFiles"]),
        ("GPU-5d5ba0d6,MIG-aaaa", ["GPU-5d5ba0d6", "MIG-aaaa"]),
    ],
)  # fmt: skip
def test_what_is_named_is_read_as_cuda_reads_it(named, found):
    assert gpus.visible({gpus.VARIABLE: named}) == found


def test_without_a_name_all_of_the_machine_are_visible_and_parts_instead_of_their_whole(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ncat <<'E'\n{FOUR}E\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    parts = ["MIG-aaaaaaaa-0000-0000-0000-000000000000", "MIG-bbbbbbbb-0000-0000-0000-000000000000"]
    assert gpus.visible({}) == ["0", *parts]
    smi.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible({}) == []


def test_two_jobs_never_have_one_gpu_and_the_variable_is_as_before(monkeypatch):
    with gpus.taken("gpu", 1) as first, gpus_of_another(monkeypatch, "0,1,2,3", 2) as second:
        assert (first, second) == (["0"], ["1", "2"])
        assert os.environ[gpus.VARIABLE] == "1,2"
    assert os.environ[gpus.VARIABLE] == "0,1,2,3"


def gpus_of_another(monkeypatch, names, n):
    """Take GPUs as a job would that was given these names."""
    os.environ[gpus.VARIABLE] = names
    return gpus.taken("auto", n)


def test_a_job_without_a_gpu_takes_none(monkeypatch, pool):
    with gpus.taken("cpu", 1) as found:
        assert found == [] and os.environ[gpus.VARIABLE] == "0,1,2,3"
    monkeypatch.setenv(gpus.VARIABLE, "")
    with gpus.taken("auto", 1) as found:
        assert found == []
    assert not pool.exists()


def test_a_process_that_cuda_has_bound_keeps_its_gpu_for_the_next_job(monkeypatch):
    monkeypatch.setattr(gpus, "_is_bound", lambda: True)
    with gpus.taken("gpu", 1) as first:
        pass
    with gpus.taken("gpu", 1) as second:
        assert second == first == ["0"]
    os.environ[gpus.VARIABLE] = "0,1"
    with gpus.taken("gpu", 1) as of_another:
        assert of_another == ["1"]


@pytest.mark.parametrize(
    ("names", "devices", "line"),
    [
        ("0,1", 3, "trainer.devices=3: there are 2 GPUs here; type trainer.devices=2"),
        ("MIG-a,MIG-b", 2, r"CUDA gives a process only one slice of a GPU \(MIG\); type trainer.devices=1"),
        ("0,1", [0], r"trainer.devices=\[0\]: parallel jobs share a pool of GPUs"),
    ],
)
def test_what_cannot_be_given_is_one_line(names, devices, line, monkeypatch):
    monkeypatch.setenv(gpus.VARIABLE, names)
    with pytest.raises(InputError, match=line), gpus.taken("gpu", devices):
        pass


@pytest.mark.parametrize(
    ("n_jobs", "accelerator", "devices", "line"),
    [
        (4, "gpu", 1, None), (2, "auto", 2, None), (2, "cpu", 1, None), (1, "gpu", 9, None),
        (5, "gpu", 1, "sweep.n_jobs=5: each takes 1 GPU, and there are 4 here; type sweep.n_jobs=4"),
        (3, "gpu", 2, "sweep.n_jobs=3: each takes 2 GPUs, and there are 4 here; type sweep.n_jobs=2"),
        (2, "gpu", -1, "sweep.n_jobs=2: each takes 4 GPUs, and there are 4 here; type sweep.n_jobs=1"),
        (3, "cpu", 1, "sweep.n_jobs=3: each takes 1 core, and there are 2 here; type sweep.n_jobs=2"),
        (2, "cpu", 2, "sweep.n_jobs=2: each takes 2 cores, and there are 2 here; type sweep.n_jobs=1"),
    ],
)  # fmt: skip
def test_jobs_side_by_side_need_room(n_jobs, accelerator, devices, line, monkeypatch):
    monkeypatch.setattr(gpus, "_cores", lambda: 2)
    if line is None:
        gpus.check_room("sweep.n_jobs", n_jobs, accelerator, devices)
        return
    with pytest.raises(InputError) as raised:
        gpus.check_room("sweep.n_jobs", n_jobs, accelerator, devices)
    assert str(raised.value) == line


def test_jobs_of_slurm_have_pools_of_their_own(monkeypatch):
    monkeypatch.delenv(gpus.POOL_VARIABLE)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    seven = gpus.pool()
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert seven.name.endswith("-7") and gpus.pool() != seven


JOB = """
import os, sys, time
from koa_lightning.config import gpus
with gpus.taken("gpu", 1) as found:
    open(sys.argv[1] + "/in-" + found[0], "x").close()  # fails where another job has it
    time.sleep(0.1)
    os.unlink(sys.argv[1] + "/in-" + found[0])
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), 9)
    print(found[0])
"""


def test_six_processes_share_two_gpus_and_one_that_dies_gives_its_gpu_back(tmp_path, monkeypatch, with_package):
    environment = {**with_package, gpus.POOL_VARIABLE: str(tmp_path / "pool"), gpus.VARIABLE: "5,GPU-7"}
    begin = ["dies", *["lives"] * 5]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", JOB, str(tmp_path), how],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for how in begin
    ]  # fmt: skip
    said = [job.communicate(timeout=60) for job in jobs]
    assert [job.returncode for job in jobs] == [-9, 0, 0, 0, 0, 0], said
    assert set(Counter(out.split()[-1] for out, _ in said[1:])) <= {"5", "GPU-7"}
