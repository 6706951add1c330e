import json
import math

import pytest

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
    judged = prune.judge(log_run.client, sweep(), 1, "best/quadratic_kappa", "max")
    assert [(one.run.info.run_name, one.kept, one.size) for one in judged] == [
        ("bare", prune.NONE, 0),
        ("running", prune.UNFINISHED, 1500),
        ("killed", prune.UNFINISHED, 1500),
        ("a", prune.BEST, 1500),
        ("b", "", 1500),
        ("c", "", 1000),  # its folder is another run's by now
        ("d", prune.REGISTERED, 1500),
        ("unmeasured", "", 1000),
    ]
    worst_first = prune.judge(log_run.client, sweep(), 2, "best/quadratic_kappa", "min")
    assert [one.run.info.run_name for one in worst_first if one.kept == prune.BEST] == ["c", "b"]
    assert math.isnan(judged[-1].value)
    with pytest.raises(InputError, match="metric=best/kappa: no run has it"):
        prune.judge(log_run.client, sweep(), 1, "best/kappa", "max")


def test_what_goes_is_gone_and_the_rest_is_untouched(sweep, log_run, place):
    client = log_run.client
    for one in prune.judge(client, sweep(), 1, "best/quadratic_kappa", "max"):
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
    one = next(j for j in prune.judge(log_run.client, sweep(), 1, "best/quadratic_kappa", "max") if not j.kept)
    log_run.client.update_run(one.run.info.run_id, status="RUNNING")
    with pytest.raises(InputError, match="its checkpoints stay: RUNNING"):
        prune.remove(log_run.client, one)
    assert log_run.client.list_artifacts(one.run.info.run_id, "checkpoints")
