"""What koa_lightning asks of a sweep, and the MLflow runs that it leaves; jobs are plain functions that open a run."""

from pathlib import Path
from types import ModuleType

import pytest
from mlflow import MlflowClient
from omegaconf import OmegaConf

from koa_lightning.config import launch as cli
from koa_lightning.config import outcome, trial
from koa_lightning.errors import InputError
from koa_lightning.sweeps import closing
from koa_lightning.sweeps import study as studies

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def job(monkeypatch, launch, place):
    """Run a plain function of a config as `train`; returns a result of `launch`."""
    monkeypatch.setenv(studies.STORAGE_VARIABLE, "")

    def run(function, *arguments):
        module = ModuleType("a_job")
        module.run = function
        monkeypatch.setitem(__import__("sys").modules, "a_job", module)
        monkeypatch.setenv(studies.STORAGE_VARIABLE, "")
        return launch(lambda: cli.start("train", "a_job:run"), "-m", *arguments, "trainer=cpu")

    return run


def tracked(cfg):
    """A training as seen from outside: a run, and its metrics."""
    from koa_lightning.tracking.begin import open_run
    from koa_lightning.training import build

    run = open_run(OmegaConf.merge(cfg.tracking, {"system_metrics": False}), Path(cfg.out), build.run_name(cfg))
    result = {
        "val/quadratic_kappa": 1 / cfg.optimizer.lr,
        "val/ece": 0.5,
        "run_id": run.run_id,
        "marks": ["phantom data"],
    }
    try:
        if cfg.loss._target_.endswith("EMD"):
            raise MemoryError("no more")
    except MemoryError as error:
        run.log_tags(trial.error_tags(error))
        run.close("FAILED")
        raise
    run.log_tags(trial.state_tags(trial.COMPLETE))
    run.close()
    return result


def runs(place):
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id])
    children = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    [parent] = [run for run in found if run not in children]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    return parent, sorted(children, key=lambda run: run.info.start_time)


BASIC = "hydra/launcher=basic"


def test_a_sweep_is_one_run_with_a_child_a_trial(job, place):
    typed = ["sweep=grid", BASIC, "loss=ce,emd", "optimizer.lr=choice(1e-3,2e-3)", "name=mine"]
    ended = job(tracked, *typed)
    assert ended.code == outcome.PARTLY, ended.err
    parent, children = runs(place)
    assert parent.info.run_name.startswith("mine grid-") and parent.info.status == "FINISHED"
    assert parent.data.params == {"space.loss": "ce,emd", "space.optimizer.lr": "choice(1e-3,2e-3)"}
    assert parent.data.tags["sweep.ensemble"] == "false"
    assert parent.data.metrics["sweep/complete"] == 2 and parent.data.metrics["sweep/failed"] == 2
    assert parent.data.metrics["sweep/best/val/quadratic_kappa"] == 1000
    names = [run.info.run_name for run in children]
    assert names[0] == "mine loss=ce lr=0.001"
    assert [run.data.tags["sweep.differs"] for run in children][:2] == [
        "loss=ce optimizer.lr=0.001", "loss=ce optimizer.lr=0.002",
    ]  # fmt: skip
    assert [run.data.tags["sweep.state"] for run in children] == ["complete", "complete", "failed", "failed"]
    assert children[2].data.tags["error_kind"] == "out_of_memory" and children[2].info.status == "FAILED"
    assert [run.data.tags["sweep.trial"] for run in children] == list("0123")
    found = studies.open_study(None, parent.data.tags["sweep"])
    assert found.user_attrs["koa_parent_run"] == parent.info.run_id
    assert found.trials[0].user_attrs["run_ids"] == [children[0].info.run_id]
    assert found.trials[0].user_attrs["marks"] == ["phantom data"]
    assert found.trials[0].user_attrs["overrides"] == ["name=mine", "trainer=cpu", "loss=ce", "optimizer.lr=0.001"]
    assert Path(found.user_attrs["koa_folder"]) == place / f"outputs/sweep-{found.study_name}"

    again = job(lambda cfg: pytest.fail("nothing is left to run"), *typed)
    assert again.code == outcome.PARTLY
    assert len(runs(place)[1]) == 4


@pytest.mark.slow
def test_an_interrupted_sweep_continues_in_its_run(job, place):
    typed = ["sweep=grid", BASIC, "optimizer.lr=choice(1e-3,2e-3)", "out=here"]

    def stopped(cfg):
        tracked(cfg)
        return {"exit_code": outcome.INTERRUPTED}

    assert job(stopped, *typed).code == outcome.INTERRUPTED
    parent, _ = runs(place)
    assert parent.info.status == "KILLED"
    assert job(tracked, *typed).code == outcome.DONE
    again, children = runs(place)
    assert (again.info.run_id, again.info.status, len(children)) == (parent.info.run_id, "FINISHED", 3)
    assert (place / "here/2").is_dir()


@pytest.mark.slow
def test_hydras_own_grid_has_one_run_too(job, place):
    ended = job(tracked, "loss=ce,focal", "optimizer.lr=1e-3", "seed=3")
    assert ended.code == outcome.DONE, ended.err
    parent, children = runs(place)
    assert "grid of 2 jobs" in "\n".join(ended.out)
    search = f"search=tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    assert ended.out[-1] == f'compare: python -m koa_lightning.compare "{search}"'
    assert parent.info.run_name == "sweep over loss"
    assert {"optimizer.lr=1e-3", "seed=3"} <= set(parent.data.tags["sweep.fixed"].split())
    assert [run.info.run_name.split()[0] for run in children] == ["effb3-ce", "effb3-focal"]
    assert [run.data.tags["sweep.differs"] for run in children] == ["loss=ce", "loss=focal"]
    assert "sweep.trial" not in children[0].data.tags


def test_the_table_of_a_grid_has_the_best_first(capsys):
    closing.show_grid([(0, 0.2, ["ce"]), (1, None, ["emd"]), (2, 0.7, ["focal"])], ["loss"], "val/accuracy", True)
    rows = [line.split()[1:-1:2] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[0] for row in rows] == ["2", "0", "1"]


@pytest.mark.slow
def test_a_sweep_in_which_nothing_began_leaves_no_run(job, place):
    def wrong(cfg):
        raise InputError("seed=1: not today")

    assert job(wrong, "seed=1,2").code == outcome.BAD_INPUT
    client = MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    assert client.search_runs([client.get_experiment_by_name("koa-lightning").experiment_id]) == []


@pytest.mark.slow
def test_an_untracked_sweep(job, place):
    ended = job(tracked, "sweep=random", BASIC, "optimizer.lr=interval(0.1,1)", "sweep.trials=1", "tracking=none")
    assert ended.code == outcome.DONE
    assert studies.open_study(None, ended.out[0].split()[1].rstrip(":")).user_attrs["koa_parent_run"] == ""


@pytest.mark.sample(5)
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["sweep=tpe"], "error: sweep: nothing varies; type sweep/space=NAME"),
        (["sweep=tep", "seed=1,2"], "error: sweep=tep: no such choice; did you mean 'tpe'?"),
        (["sweep=tpe", "sweep.trails=3", "seed=1,2"], "error: sweep.trails: no such key"),
        (["sweep=tpe", "sweep.metrics=[test/accuracy]", "seed=1,2"], "error: sweep.metrics=test/accuracy: a sweep"),
        (["sweep=tpe", "data.val_fraction=interval(0.1,0.2)"], "error: data.val_fraction=interval(0.1,0.2): cannot"),
        (["sweep=tpe", "tracking.uri=a,b"], "error: tracking.uri=a,b: cannot vary"),
        (["sweep=tpe", "optimizer.lr=interval(-1,1)"], "error: optimizer.lr=-1.0: must be a number"),
        (["sweep=tpe", "loss=ce,focal", "loss.gamma=interval(1,2)"], "error: loss.gamma: exists only with loss=focal"),
        (["sweep=tpe", "seed=1,2", "sweep.repeats=2", "sweep.repeat=fold"], "error: sweep.repeat=fold: 2 repeats need"),
        (["sweep=tpe", "loss=ce,emd", "sweep.repeats=3", "sweep.repeat=fold", "data.folds=3", "data.fold=1"],
         "error: sweep.repeat=fold: 3 repeats need the folds 1 to 3; type data.folds=4, or more"),
        (["sweep=tpe", "loss=ce,emd", "sweep.repeats=2", "sweep.repeat=sed"], "error: sweep.repeat=sed: must name"),
        (["sweep=tpe", "seed=1,2", "sweep.metrics=[val/mae]", "sweep.directions=[max]"],
         "error: sweep.directions=max: the best val/mae is the min; type min, or omit sweep.directions"),
        (["sweep=tpe", "seed=1,2", "sweep.metrics=seconds", "sweep.directions=max"], "error: sweep.directions=max:"),
        (["sweep.trials=3", "seed=1,2"], "error: sweep.trials: exists only in a sweep with Optuna; type sweep=tpe"),
        (["sweep=tpe", "sweep/space=loss2"], "error: sweep/space=loss2: no such choice; did you mean 'loss'?"),
        (["seed=1,2", "hydra/launcher=jobblib"], "error: hydra/launcher=jobblib: is not installed; type pip install"),
        (["sweep=tpe", "seed=1,2", "sweep.n_jobs=1000"], "error: sweep.n_jobs=1000: each takes 1 core, and there are"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(typed, line, job, place):
    before = set(place.rglob("*"))
    ended = job(lambda cfg: pytest.fail("it began"), *typed)
    assert ended.code == outcome.BAD_INPUT
    assert len(ended.err) == 1 and ended.err[0].startswith(line), ended.err
    assert set(place.rglob("*")) - before <= {place / "outputs"}


def test_a_sweep_needs_many_runs(launch, place):

    ended = launch("train", "sweep=tpe")
    assert (ended.code, ended.err) == (outcome.BAD_INPUT, ["error: sweep=tpe: a sweep needs -m; type it too"])
