import json
import math

import pytest

from koa_lightning.config import run_folder
from koa_lightning.config.compose import best_is
from koa_lightning.errors import InputError
from koa_lightning.tracking import prune
from koa_lightning.tracking.runs import find_runs
from koa_lightning.tracking.store import open_store


@pytest.fixture
def sweep(log_run, place):
    """Seven jobs; returns their runs by name."""
    file = place / "best.ckpt"
    file.write_bytes(b"x" * 1000)
    kappa = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6, "running": 0.95, "killed": 0.94, "bare": 0.99}
    ids = {}
    for name, value in kappa.items():
        folder = place / "jobs" / name
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"x" * 500)
        status = {"running": "RUNNING", "killed": "KILLED"}.get(name, "FINISHED")
        ids[name] = log_run(
            name,
            metrics={"best/quadratic_kappa": value},
            params={"out": folder} if name != "bare" else {},
            checkpoint=file if name != "bare" else None,
            status=status,
        )
        (folder / "done.json").write_text(json.dumps({"run_id": ids[name] if name != "c" else "another"}))
    ids["unmeasured"] = log_run("unmeasured", checkpoint=file)
    log_run.client.create_registered_model("koa-grader")
    log_run.client.create_model_version("koa-grader", f"runs:/{ids['d']}/model", ids["d"])
    store = open_store(None, place / "mlruns", create=False)
    return lambda: find_runs(store, list(ids.values()))


def test_what_stays_and_why(sweep, log_run, place):
    candidates = prune.choose(log_run.client, sweep(), 1, "best/quadratic_kappa", "max")
    assert [(one.run.info.run_name, one.kept, one.size) for one in candidates] == [
        ("bare", prune.NONE, 0),
        ("running", prune.UNFINISHED, 1500),
        ("killed", prune.UNFINISHED, 1500),
        ("a", prune.BEST, 1500),
        ("b", "", 1500),
        ("c", "", 1000),  # its folder is another run's by now
        ("d", prune.REGISTERED, 1500),
        ("unmeasured", "", 1000),
    ]
    worst_first = prune.choose(log_run.client, sweep(), 2, "best/quadratic_kappa", "min")
    assert [one.run.info.run_name for one in worst_first if one.kept == prune.BEST] == ["c", "b"]
    assert math.isnan(candidates[-1].value)
    with pytest.raises(InputError, match="metric=best/kappa: no run has it"):
        prune.choose(log_run.client, sweep(), 1, "best/kappa", "max")


def test_what_goes_is_gone_and_the_rest_is_untouched(sweep, log_run, place):
    client = log_run.client
    for one in prune.choose(client, sweep(), 1, "best/quadratic_kappa", "max"):
        if not one.kept:
            prune.remove(client, one)
        else:
            with pytest.raises(InputError, match="its checkpoints stay"):
                prune.remove(client, one)
    left = {run.info.run_name for run in sweep() if client.list_artifacts(run.info.run_id, "checkpoints")}
    assert left == {"a", "d", "running", "killed"}
    folders = {path.parent.name for path in (place / "jobs").glob("*/checkpoints")}
    assert folders == {"a", "c", "d", "running", "killed", "bare"}
    assert {run.info.run_name for run in sweep() if run.data.tags.get(prune.PRUNED_TAG)} == {"b", "c", "unmeasured"}
    assert (place / "jobs/b/done.json").exists()


def test_a_run_that_was_resumed_meanwhile_keeps_its_own(sweep, log_run):
    one = next(j for j in prune.choose(log_run.client, sweep(), 1, "best/quadratic_kappa", "max") if not j.kept)
    log_run.client.update_run(one.run.info.run_id, status="RUNNING")
    with pytest.raises(InputError, match="its checkpoints stay: RUNNING"):
        prune.remove(log_run.client, one)
    assert log_run.client.list_artifacts(one.run.info.run_id, "checkpoints")


def fates(log_run, runs, keep=1):
    candidates = prune.choose(log_run.client, runs, keep, "best/quadratic_kappa", "max")
    return {one.run.info.run_name: one.kept for one in candidates}


def test_a_run_that_a_process_continues_with_keeps_its_own(sweep, log_run, place):
    going = {
        one.run.info.run_name: one
        for one in prune.choose(log_run.client, sweep(), 1, "best/quadratic_kappa", "max")
        if not one.kept
    }
    with run_folder.holding(place / "jobs/b"):  # its status in the store still is that of its first end
        assert fates(log_run, sweep())["b"] == prune.UNFINISHED
        with pytest.raises(InputError, match="another process is training in this folder"):
            prune.remove(log_run.client, going["b"])
        assert (place / "jobs/b/checkpoints/last.ckpt").exists()
        assert log_run.client.list_artifacts(going["b"].run.info.run_id, "checkpoints")
    prune.remove(log_run.client, going["b"])
    assert not (place / "jobs/b/checkpoints").exists()


def test_nobody_continues_with_a_run_while_its_checkpoints_are_deleted(sweep, log_run, place, monkeypatch):
    held = []
    monkeypatch.setattr(prune.shutil, "rmtree", lambda _: held.append(run_folder.is_running(place / "jobs/b")))
    candidates = prune.choose(log_run.client, sweep(), 1, "best/quadratic_kappa", "max")
    prune.remove(log_run.client, next(one for one in candidates if one.run.info.run_name == "b"))
    assert set(held) == {True}  # in the store, and in the run folder


@pytest.mark.slow
def test_members_of_an_ensemble_stay(sweep, log_run):
    ids = {run.info.run_name: run.info.run_id for run in sweep()}
    assert fates(log_run, sweep())["c"] == ""
    log_run("eval best", tags={"evaluates": ids["b"]})
    log_run("eval ensemble", tags={"evaluates": f"{ids['c']}, /elsewhere/best.ckpt, {ids['a']}"})
    found = fates(log_run, sweep())
    assert (found["a"], found["b"], found["c"]) == (prune.MEMBER, prune.BEST, prune.MEMBER)


@pytest.mark.parametrize("together", ["true", "false"])
def test_trials_that_a_sweep_measures_together_stay(together, log_run, place):
    (place / "best.ckpt").write_bytes(b"x")
    parent = log_run("sweep", tags={"sweep.ensemble": together}, status="RUNNING")
    for name, state in (("a", "complete"), ("b", "complete"), ("c", "pruned")):
        log_run(
            name, metrics={"best/quadratic_kappa": 0.5}, tags={"sweep.state": state}, checkpoint="best.ckpt",
            parent=parent,
        )  # fmt: skip
    runs = log_run.client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{parent}'")
    kept = fates(log_run, runs)
    if together == "true":
        assert kept == {"a": prune.MEMBER, "b": prune.MEMBER, "c": prune.BEST}
    else:
        assert sorted(kept.values()) == ["", "", prune.BEST]


def test_a_metric_decides_by_its_own_best(log_run, place):
    (place / "best.ckpt").write_bytes(b"x")
    for brier in (0.3, 0.6):
        log_run(f"{brier}", metrics={"test/brier": brier, "best/epoch": 3}, checkpoint="best.ckpt")
    runs = log_run.client.search_runs(["1"])
    candidates = prune.choose(log_run.client, runs, 1, "test/brier", best_is("test/brier"))
    assert [(one.value, one.kept) for one in candidates] == [(0.3, prune.BEST), (0.6, "")]
    with pytest.raises(InputError, match=r"metric=best/epoch: its best direction \(max or min\) is unknown"):
        prune.choose(log_run.client, runs, 1, "best/epoch", best_is("best/epoch"))
