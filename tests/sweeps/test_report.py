import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import optuna
import pandas as pd
import pytest
from mlflow import MlflowClient

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.sweeps import best
from koa_lightning.sweeps import report as sweep_report
from koa_lightning.sweeps.parent import Parent
from koa_lightning.sweeps.report import report
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store

pytestmark = pytest.mark.usefixtures("blank_figures")

KAPPA, ECE = "val/quadratic_kappa", "val/ece"


@pytest.fixture
def database(place):
    """The default database, in an empty working directory with a ready tracking store."""
    return f"sqlite:///{place}/mlruns/sweeps.db"


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures out: they take seconds."""
    monkeypatch.setattr(sweep_report, "_draw", lambda *_: ([], {}))


def in_order(lines, *starts):
    at = [next(i for i, line in enumerate(lines) if line.strip().startswith(start)) for start in starts]
    return at == sorted(at)


def test_a_sweep_is_reported(made_study, database, place, launch):
    study = made_study(30, storage=database, repeats=3)
    ended = launch("sweep_report", "out=there")
    assert (ended.code, ended.err) == (0, [])
    made = {file.name for file in (place / "there").iterdir() if file.name != ".hydra"}
    assert made == {"trials.csv", "history.png", "curves.png", "parallel.png", "slices.png", "importance.png"}
    assert pd.read_csv("there/trials.csv")["trial"].iloc[0] == study.best_trial.number
    text = " ".join(ended.out)
    assert "17 complete, 7 pruned, 3 failed, 3 interrupted" in " ".join(text.split())
    assert "trial 13 failed, out_of_memory: it was [bold]number 13[/]" in ended.out
    assert "the same in all trials: trainer.max_epochs=5" in ended.out
    assert "research use only, not a medical device" in text
    command = best.command(study.best_trial.user_attrs["overrides"])
    assert in_order(ended.out, "best: trial", command, "report: ", "settings of trial ")


@pytest.mark.slow
def test_the_best_file_composes_to_the_best_trial(made_study, database, launch, undrawn):
    study = made_study(12, storage=database, name="my sweep/1")
    out = launch("sweep_report").out
    assert out[-2] == f"settings of trial {study.best_trial.number}: experiments/my-sweep-1/best.yaml; train with them:"
    arguments = shlex.split(out[-1].strip().removeprefix("python -m koa_lightning.train "))

    train = "train"

    from_file = launch(train, *arguments, "out=x", "--cfg", "job")
    typed = launch(train, *study.best_trial.user_attrs["overrides"], "out=x", "--cfg", "job")
    assert from_file.code == 0
    assert from_file.out == typed.out
    assert f"  lr: {study.best_trial.params['optimizer.lr']}" in typed.out


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("n", "figures", "missing"),
    [
        (1, {"history", "curves"}, ["parallel: 2 complete trials are needed, there is 1", "importance", "slices"]),
        (3, {"history", "curves", "parallel", "slices"}, ["importance: 10 complete trials are needed, there are 2"]),
    ],
)
def test_few_trials_make_fewer_figures_and_it_is_said(n, figures, missing, made_study, database, launch, place):
    for name in ("importance", "slices", "parallel"):  # of an earlier report
        Path("there").mkdir(exist_ok=True)
        Path(f"there/{name}.png").write_text("old")
    made_study(n, storage=database)
    out = launch("sweep_report", "out=there").out
    assert {file.stem for file in Path("there").glob("*.png")} == figures
    said = [line.removeprefix("no figure ") for line in out if line.startswith("no figure ")]
    assert all(line.startswith(start) for line, start in zip(said, missing, strict=True))


@pytest.mark.slow
def test_several_objectives(made_study, database, launch, monkeypatch):
    study = made_study(9, storage=database, metrics=(KAPPA, ECE), seed=6)
    ended = launch("sweep_report", "out=there")
    front = {trial.number for trial in study.best_trials}
    (line,) = [each for each in ended.out if each.startswith("Pareto front: trial ")]
    assert set(map(int, line.split("trial ")[1].split(" (")[0].split(", "))) == front
    assert Path("there/pareto.png").exists()
    first = next(int(each.split()[2].rstrip(",")) for each in ended.out if each.startswith("best: trial"))
    assert f"# trial {first} of" in Path("experiments/tpe/best.yaml").read_text()
    other = min(front - {first})
    monkeypatch.setattr(sweep_report, "_draw", lambda *_: ([], {}))
    launch("sweep_report", "out=there", f"trial={other}")
    assert f"# trial {other} of" in Path("experiments/tpe/best.yaml").read_text()


def test_a_sweep_without_a_complete_trial_is_reported_too(made_study, database, launch):
    study = made_study(0, storage=database)
    study.add_trials([optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)] * 2)
    study.ask()
    ended = launch("sweep_report")
    assert ended.code == 0
    assert "no trial is complete" in ended.out
    assert ended.out[-1].startswith("report: ")
    assert not Path("experiments").exists()


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["name=tpo"], "name=tpo: no such sweep in sqlite:///{place}/mlruns/sweeps.db; the nearest: tpe"),
        (["name=empty"], "sweep empty: has no trials yet; nothing to report"),
        (["name=foreign"], "name=foreign: was not made by a sweep of koa_lightning, so its trials cannot be read"),
        (["storage=sqlite:///no.db"], "{place}/no.db: no such database of sweeps; name the right one by"),
        (["storage=nonsense"], "storage=nonsense: must be sqlite:///FILE.db or postgresql://"),
        (["trial=3"], "trial=3: no complete trial of sweep tpe; the best are "),
        (["trial=99"], "trial=99: no complete trial of sweep tpe; the best are "),
        (["trial=first"], "trial=first: must be a whole number from 0"),
        (["best=best.txt"], "best=best.txt: must end in .yaml"),
        (["nam=x"], "nam: no such key in the configuration; did you mean 'name'?"),
    ],
)
def test_bad_input_is_one_line(arguments, says, made_study, database, launch, place, undrawn):
    optuna.create_study(study_name="foreign", storage=database)
    made_study(0, name="empty", storage=database)
    made_study(8, storage=database)
    ended = launch("sweep_report", *arguments, "out=there")
    assert ended.code == 2
    assert [line for line in ended.err if line.startswith("error: ")][-1].startswith(
        f"error: {says}".format(place=place)
    )
    assert not any("Traceback" in line for line in ended.err)
    assert not Path("there").exists()


def test_without_any_sweep(place, launch):
    ended = launch("sweep_report")
    assert ended.code == 2
    [line] = ended.err
    assert line.startswith(f"error: {place}/mlruns/sweeps.db: no such database of sweeps; name the right one")
    assert "python -m koa_lightning.compare" in line  # the README's own grid keeps no database


@pytest.mark.slow
def test_what_the_file_cannot_say_is_a_warning(made_study, database, launch, undrawn):
    facts = {"overrides": ["~callbacks.ema", "loss=ce"]}
    study = made_study(0, storage=database)
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs=facts))
    ended = launch("sweep_report")
    assert ended.err == ["WARNING: experiments/tpe/best.yaml cannot express callbacks.ema; type the command"]


def artifacts(client, run_id, folder):
    return {item.path for item in client.list_artifacts(run_id, folder)}


@pytest.mark.slow
def test_the_parent_run_gets_the_files_and_keeps_its_state(made_study, database, place, launch, undrawn):
    here = compose("train", []).tracking
    tracked = open_store(None, place / "mlruns")
    run = start_run(tracked, here.experiment, "the sweep", place / "parent")
    run.close("KILLED")
    made_study(3, storage=database, parent=run.run_id)
    assert launch("sweep_report", "out=there").code == 0
    client = MlflowClient(tracked.uri)
    assert artifacts(client, run.run_id, "sweep") == {"sweep/best.yaml", "sweep/trials.csv"}
    found = client.get_run(run.run_id)
    assert (found.info.status, found.info.run_name) == ("KILLED", "the sweep")


@pytest.mark.slow
def test_a_parent_run_that_is_gone_is_said(made_study, database, launch, undrawn):
    made_study(3, storage=database, parent="0" * 32)
    ended = launch("sweep_report")
    assert ended.code == 0
    assert any(f"the sweep's parent run {'0' * 32} is not in sqlite:///" in line for line in ended.err)
    assert launch("sweep_report", "tracking=none").err == []


def test_a_sweep_ends_with_its_report_in_its_run(made_study, database, place, undrawn, capsys):
    study = made_study(3, storage=database)
    study.set_user_attr("koa_parent_run", "")
    parent, config = Parent(), compose("train", [])
    (job,) = parent.began(study, config, place / "sweep")
    tracked = open_store(None, place / "mlruns")
    run_id = job.removeprefix("tracking.parent=")
    start_run(tracked, config.tracking.experiment, "a trial", place / "trial", parent=run_id).close()
    parent.ended(study, "KILLED")
    client = MlflowClient(tracked.uri)
    assert artifacts(client, run_id, "sweep") == {"sweep/best.yaml", "sweep/trials.csv"}
    run = client.get_run(run_id)
    best = study.best_trial
    link = f"[trial {best.number}](#/experiments/{run.info.experiment_id}/runs/{best.user_attrs['run_ids'][0]})"
    assert run.data.tags["mlflow.note.content"].startswith(f"**Best: {link}**")
    assert run.info.status == "KILLED"
    assert f"settings of trial {best.number}: experiments/tpe/best.yaml; train with them:" in capsys.readouterr().out


def test_the_sweeper_reports_into_its_open_run(made_study, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    logged = []
    run = SimpleNamespace(log_artifact=lambda file, folder: logged.append((file.name, folder)))
    result = report(made_study(3), tmp_path / "out", best=tmp_path / "s" / "b.yaml", run=run)
    assert logged == [(file.name, "sweep") for file in result["files"]]
    assert set(result["missing"]) == {"importance"}
    assert result["best_trial"] in (0, 1)
    assert result[KAPPA] == made_study(3).best_value
    assert result["counts"] == {"complete": 2, "pruned": 1}
    with pytest.raises(InputError, match="has no trials yet"):
        report(made_study(0), tmp_path / "out")


def test_help_costs_no_heavy_import(with_package):
    code = (
        "import sys; import koa_lightning.sweep_report; print(sorted({'torch', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=with_package, check=True)
    assert done.stdout.strip() == "[]"
