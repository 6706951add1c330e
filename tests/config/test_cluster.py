import json
import signal

import pytest

from koa_lightning.config import cluster, run_folder, signals
from koa_lightning.config import launch as cli

VARIABLES = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_PROCID")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    for name in (*VARIABLES, cluster.REQUEUE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """Say that this is a job; `scontrol` of the path writes down what it is asked."""

    def be(job="7", restarts=0, says="", code=0):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        (tmp_path / "bin").mkdir(exist_ok=True)
        program = tmp_path / "bin/scontrol"
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\necho "{says}" >&2\nexit {code}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")

    return be


def begin(folder, *typed):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints/last.ckpt").touch()
    run_folder.remember(folder, list(typed))


def test_outside_of_a_job_nothing_is_written(tmp_path):
    begin(tmp_path / "outputs/a", "seed=1")
    assert not (tmp_path / "outputs/a" / cluster.RECORD_FILE).exists()
    assert run_folder.with_old_overrides(["seed=1"]) == ["seed=1"]


@pytest.mark.parametrize("typed", [["seed=1"], ["seed=1", "out=outputs/a"], ["name=a b", "data.root='x, y'"]])
def test_a_requeued_command_continues_with_its_run(slurm, tmp_path, typed):
    slurm()
    assert run_folder.with_old_overrides(typed) == typed
    begin(tmp_path / "outputs/a", *cli.overrides.quote_paths(typed))
    begin(tmp_path / "outputs/b", "seed=2")
    slurm(restarts=1)
    again = run_folder.with_old_overrides(typed)
    last = f"{tmp_path}/outputs/a/checkpoints/last.ckpt"
    assert f"ckpt='{last}'" in again and f"out='{tmp_path}/outputs/a'" in again
    run_folder.remember(tmp_path / "outputs/a", [item for item in again if not item.startswith("hydra.")])
    slurm(restarts=2)
    assert f"ckpt='{last}'" in run_folder.with_old_overrides(typed)


def test_another_command_or_job_begins_a_run(slurm, tmp_path):
    slurm()
    begin(tmp_path / "outputs/a", "seed=1")
    slurm(restarts=1)
    assert run_folder.with_old_overrides(["seed=2"]) == ["seed=2"]
    slurm(job="8", restarts=1)
    assert run_folder.with_old_overrides(["seed=1"]) == ["seed=1"]


def test_a_run_that_had_finished_is_not_trained_again(slurm, tmp_path, capsys):
    slurm()
    begin(tmp_path / "outputs/a", "seed=1")
    (tmp_path / "outputs/a/done.json").touch()
    slurm(restarts=1)
    with pytest.raises(SystemExit) as ended:
        run_folder.with_old_overrides(["seed=1"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "outputs/a: finished before the job was started again; nothing to do\n"


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_its_folder(slurm, tmp_path):
    slurm()
    begin(tmp_path / "outputs/a", "seed=1")
    (tmp_path / "outputs/a/checkpoints/last.ckpt").unlink()
    slurm(restarts=1)
    assert run_folder.with_old_overrides(["seed=1"]) == ["seed=1", "out='outputs/a'", "hydra.output_subdir=null"]


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"job": "7"}', "\0"])
def test_a_record_of_another_program_is_none(slurm, tmp_path, content):
    slurm(restarts=1)
    (tmp_path / "outputs/a").mkdir(parents=True)
    (tmp_path / "outputs/a" / cluster.RECORD_FILE).write_text(content)
    assert cluster.begun_before(["seed=1"]) is None


def test_the_id_of_a_job_of_an_array(slurm, monkeypatch, tmp_path):
    slurm()
    assert cluster.job_id() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    begin(tmp_path / "outputs/a", "seed=1")
    assert json.loads((tmp_path / "outputs/a" / cluster.RECORD_FILE).read_text())["job"] == "5_3"


def end_by(number):
    signals._State.number = number
    cluster.requeue_if_asked()


@pytest.mark.parametrize("asked", [None, "0", "1"])
def test_a_job_is_requeued_if_asked(slurm, monkeypatch, tmp_path, capsys, asked):
    slurm()
    if asked:
        monkeypatch.setenv(cluster.REQUEUE_VARIABLE, asked)
    with signals.installed():
        end_by(signal.SIGTERM)
        assert not (tmp_path / "asked").exists()
        end_by(signal.SIGUSR1)
    assert (tmp_path / "asked").exists() == (asked == "1")
    if asked == "1":
        assert (tmp_path / "asked").read_text() == "requeue 7\n"
        assert capsys.readouterr().out == "job 7 is in the queue again\n"


def test_only_the_first_process_requeues(slurm, monkeypatch, tmp_path):
    slurm()
    monkeypatch.setenv(cluster.REQUEUE_VARIABLE, "1")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with signals.installed():
        end_by(signal.SIGUSR1)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("there", [True, False])
def test_a_cluster_that_does_not_requeue(slurm, monkeypatch, capsys, there):
    slurm(says="Requested operation is presently disabled", code=1)
    monkeypatch.setenv(cluster.REQUEUE_VARIABLE, "1")
    if not there:
        monkeypatch.setenv("PATH", "/nowhere")
    with signals.installed():
        end_by(signal.SIGUSR1)
    said = capsys.readouterr().err
    assert said.startswith("error: job 7 was not requeued: scontrol requeue 7: ") and said.count("\n") == 1
    assert ("disabled" if there else "scontrol") in said
