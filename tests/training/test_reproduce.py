import re
import shlex

import pytest
from hydra.core.hydra_config import HydraConfig

from koa_lightning.config import overrides
from koa_lightning.config.compose import compose
from koa_lightning.tracking.store import open_store
from koa_lightning.training import reproduce, run

pytestmark = pytest.mark.usefixtures("blank_figures")


def train_here(arguments):
    """Train in this process, not in a new one, which would import everything again."""
    HydraConfig.instance().cfg = None
    return run.train(compose("train", overrides.quote_paths(arguments[2:])))["exit_code"]


@pytest.fixture
def first(launch, place, tiny):
    ended = launch("train", *tiny.overrides, "trainer.max_epochs=1", "name=first", "out=old run", "explain=none")
    assert ended.code == 0, ended.err
    return open_store(None, place / "mlruns", create=False).client()


@pytest.mark.slow
def test_the_same_numbers_again_and_others_by_another_seed(launch, first, place, monkeypatch):
    ended = launch("reproduce", "run=first", "out=new run", "run_it=false")
    assert ended.code == 0, ended.err
    assert not (place / "new run").exists()
    assert "trainer.max_epochs=1" in ended.out[0] and "out=" not in ended.out[0]
    assert "nothing has changed since: settings, data, commit, versions, machine" in ended.out
    monkeypatch.setattr(reproduce, "run_command", lambda arguments: 130)
    assert launch("reproduce", "run=first", "out=new run").code == 130
    monkeypatch.setattr(reproduce, "run_command", train_here)
    ended = launch("reproduce", "run=first", "out=new run", "quiet=true")
    assert ended.code == 0, ended.err
    said = [line for line in ended.out if line.startswith("REPRODUCED: all ")]
    assert len(said) == 1 and int(said[0].split()[2]) > 30
    assert len(first.search_runs(["1"], "tags.reproduces != ''")) == 1
    ended = launch("reproduce", "run=first", "out=other", "seed=5", "quiet=true")
    assert ended.code == 1, ended.err
    text = "\n".join(ended.out)
    assert "seed" not in ended.out[0] and ended.out[1] == "now also with: seed=5"
    assert "what has changed since:" in ended.out and re.search(r"seed +│ 42 +│ 5 ", text)
    assert any(line.startswith("DIFFERS: ") and " values, by up to " in line for line in ended.out)


@pytest.mark.slow
def test_a_run_that_was_trained_further_may_differ_and_that_is_said(launch, first):
    assert launch("train", "ckpt=old run/checkpoints/last.ckpt", "trainer.max_epochs=2").code == 0
    ended = launch("reproduce", "run=first", "run_it=false")
    line = "WARNING: the run began with trainer.max_epochs=1 and was resumed with 2; trained in one go, it may differ"
    assert ended.code == 0 and ended.out.count(line) == 1, ended.out


@pytest.mark.slow
def test_in_a_process_of_its_own(launch, first, place, with_package, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", with_package["PYTHONPATH"])
    ended = launch("reproduce", "run=first", "out=new run")
    assert ended.code == 0, ended.err
    (again,) = first.search_runs(["1"], "tags.reproduces != ''")
    typed = shlex.split(again.data.tags["command"])
    assert typed[:3] == ["python", "-m", "koa_lightning.train"]
    assert again.info.run_name == "first again"
    assert typed[-2:] == [f"+tracking.tags.reproduces={again.data.tags['reproduces']}", "quiet=false"]
    assert any(line.startswith("REPRODUCED: all ") for line in ended.out)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ([], "error: run: must be given; type run=VALUE"),
        (["run=nobody"], "error: run=nobody: no run of this id or name"),
        (["run=running"], "error: run=running: is still running, or was killed"),
        (["run=foreign"], "error: run="),
        (["run=typed", "sed=3"], "error: sed: no such key in the configuration; did you mean 'seed'?"),
        (["run=typed", "run_it=maybe"], "error: run_it=maybe: must be one of true, false"),
    ],
)
def test_bad_input_is_one_line(arguments, start, launch, log_run, place):
    log_run("running", status="RUNNING")
    log_run("foreign")
    log_run("typed", tags={"command": "python -m koa_lightning.train seed=1"}, texts={"config.yaml": "seed: 1"})
    ended = launch("reproduce", *arguments)
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start)


def test_the_exit_code_of_the_process():
    assert reproduce.run_command(["-c", "import sys; sys.exit(7)"]) == 7
