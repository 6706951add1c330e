import json
import math
import shlex

import pytest
import yaml

from koa_lightning.errors import InputError
from koa_lightning.tracking import repeat
from koa_lightning.tracking.runs import find_run
from koa_lightning.tracking.store import open_store


@pytest.fixture
def found(log_run, place):
    def log(name="a", **more):
        return find_run(open_store(None, place / "mlruns", create=False), log_run(name, **more))

    return log


def command(*items):
    return {"command": shlex.join(["python", "-m", "koa_lightning.train", *items])}


def test_overrides_of_a_command(found):
    run = found(
        tags=command(
            "data.root=a b's", "loss=ce", "tracking.parent=x", "sweep=tpe", "sweep.trials=3", "out=old", "name='a, b'"
        )
    )
    assert repeat.overrides_of(run) == ["data.root=a b's", "loss=ce", "name='a, b'"]


def test_overrides_of_a_run_that_has_no_command_but_its_folder(found, place):
    folder = place / "old run"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/overrides.yaml").write_text(yaml.safe_dump(["seed=3", "data.root='a b'", "out='x'"]))
    run = found(params={"out": folder})
    (folder / "done.json").write_text(json.dumps({"run_id": run.info.run_id}))
    assert repeat.overrides_of(run) == ["seed=3", "data.root=a b"]
    (folder / "done.json").write_text(json.dumps({"run_id": "of another"}))
    with pytest.raises(InputError, match=r"holds no command of koa_lightning.train"):
        repeat.overrides_of(run)


@pytest.mark.parametrize(
    "item", ["loss._target_=os.system", "+x={_target_:os.system}", "hydra.run.dir=/", "+hydra/launcher=x"]
)
def test_a_command_that_names_code_is_not_run(item, found):
    with pytest.raises(InputError, match="its command names code to run"):
        repeat.overrides_of(found(tags=command("seed=1", item)))


@pytest.mark.parametrize("tag", ["", "rm -rf /", "python -m koa_lightning.cross_validate data.folds=2"])
def test_what_is_no_command_of_train(tag, found):
    with pytest.raises(InputError, match=r"holds no command of koa_lightning.train"):
        repeat.overrides_of(found(tags={"command": tag} if tag else {}))


def test_settings_that_the_same_command_gives_no_longer(found, log_run):
    then = {"seed": 1, "loss": {"gamma": 2.0}, "gone": True, "out": "x", "quiet": False}
    run = found(texts={"config.yaml": yaml.safe_dump(then)})
    now = {"seed": 1, "loss": {"gamma": 3.0}, "new": None, "out": "y", "quiet": True}
    assert repeat.changed_settings(log_run.client, run, now) == {
        "gone": ("true", "-"),
        "loss.gamma": ("2.0", "3.0"),
        "new": ("-", "null"),
    }
    with pytest.raises(InputError, match=r"its config.yaml: "):
        repeat.changed_settings(log_run.client, found(), now)


def test_settings_of_a_run_that_was_trained_further(found):
    params = {"trainer.max_epochs": 1, "seed": 1, "out": "a"}
    tags = {"resumed.trainer.max_epochs": "20", "resumed.seed": "1", "resumed.out": "b", "resumed.git.commit": "2"}
    assert repeat.trained_further(found(params=params, tags=tags)) == {"trainer.max_epochs": ("1", "20")}
    assert repeat.trained_further(found(params=params)) == {}


def test_facts_that_are_others_now(found):
    run = found(tags={"git.commit": "1", "version.torch": "2", "data.fingerprint": "f", "device": "gpu"})
    now = {
        "git.commit": "2",
        "version.torch": "2",
        "data.fingerprint": "f",
        "machine.cpu": "c",
        "mlflow.source.name": "x",
    }
    assert repeat.changed_facts(run, now) == {"git.commit": ("1", "2"), "machine.cpu": ("-", "c")}


def test_values_are_compared_epoch_by_epoch(found, log_run):
    nan = math.nan
    old = found(metrics={"val/mae": [0.5, 0.4], "best/mae": 0.4, "val/f1_0": [nan, nan], "system/cpu": 1.0, "a": 1.0})
    same = found(metrics={"val/mae": [0.5, 0.4], "best/mae": 0.4, "val/f1_0": [nan, nan], "system/cpu": 2.0})
    assert repeat.compare_metrics(log_run.client, old, same) == ([("best/mae", 0.4, 0.4)], 5, 0, (0.0, ""))
    other = found(metrics={"val/mae": [0.5, 0.375], "best/mae": 0.4, "val/f1_0": [0.5, nan]})
    compared = repeat.compare_metrics(log_run.client, old, other)
    assert (compared.n_values, compared.n_differing, compared.largest) == (5, 2, (math.inf, "val/f1_0, epoch 0"))


def log_best(client, run, kappa, epoch):
    for name, value in (("best/kappa", kappa), ("best/epoch", epoch)):
        client.log_metric(run.info.run_id, name, value, step=epoch)


def best_of(found, client, curve, *ends, **more):
    """A run with a curve, and its best epoch (kappa, epoch) at each of its ends."""
    run = found(metrics={"val/kappa": curve}, **more)
    for kappa, epoch in ends:
        log_best(client, run, kappa, epoch)
    return client.get_run(run.info.run_id)


def test_epochs_that_one_run_alone_has_differ(found, log_run):
    client = log_run.client
    old = best_of(found, client, [0.5, 0.6, 0.7, 0.75], (0.75, 3))
    new = best_of(found, client, [0.5, 0.6], (0.6, 1))
    rows = [("best/epoch", 3.0, 1.0), ("best/kappa", 0.75, 0.6)]
    for then, now, said in ((old, new, rows), (new, old, [(name, b, a) for name, a, b in rows])):
        compared = repeat.compare_metrics(client, then, now)
        assert (compared.rows, compared.n_values, compared.n_differing) == (said, 6, 4)
        assert compared.largest == (math.inf, "val/kappa, epoch 3")


def test_what_an_evaluation_added_to_an_epoch_is_not_compared(found, log_run):
    old = best_of(found, log_run.client, [0.5, 0.75], (0.75, 1))
    new = best_of(found, log_run.client, [0.5, 0.75], (0.75, 1))
    later = log_run.client.get_metric_history(old.info.run_id, "val/kappa")[1].timestamp + 1000
    log_run.client.log_metric(old.info.run_id, "val/kappa", 0.7500001, timestamp=later, step=1)
    assert repeat.compare_metrics(log_run.client, old, new)[1:] == (4, 0, (0.0, ""))


@pytest.mark.slow
def test_a_run_that_was_resumed_after_its_end_is_compared_by_its_last_best(found, log_run):
    old = best_of(found, log_run.client, [0.5, 0.6, 0.75], (0.6, 1), (0.75, 2))
    new = best_of(found, log_run.client, [0.5, 0.6, 0.75], (0.75, 2))
    assert repeat.compare_metrics(log_run.client, old, new)[1:] == (5, 0, (0.0, ""))


@pytest.mark.sample(1)
@pytest.mark.parametrize("cut", [{"status": "KILLED"}, {"tags": {"sweep.state": "pruned"}}])
def test_of_a_run_that_was_cut_short_its_own_epochs_count(cut, found, log_run):
    old = best_of(found, log_run.client, [0.5, 0.6], (0.6, 1), **cut)
    new = best_of(found, log_run.client, [0.5, 0.6, 0.75], (0.75, 2))
    assert repeat.compare_metrics(log_run.client, old, new) == ([], 2, 0, (0.0, ""))
    short = best_of(found, log_run.client, [0.5], (0.5, 0))
    assert repeat.compare_metrics(log_run.client, old, short)[1:3] == (2, 1)
