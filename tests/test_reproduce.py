import shlex
import sys

import pytest

from koa_lightning import reproduce
from koa_lightning.tracking.store import open_store
from koa_lightning.train import main as train_main


@pytest.fixture
def here(launch, monkeypatch):
    """Train in this process, not in a new one, which would import everything again."""
    monkeypatch.setattr(reproduce, "run_command", lambda arguments: launch(train_main, *arguments[2:]).code)


@pytest.fixture
def first(launch, place, tiny):
    ended = launch(train_main, *tiny.overrides, "trainer.max_epochs=1", "name=first", "out=old run", "explain=none")
    assert ended.code == 0, ended.err
    return open_store(None, place / "mlruns", create=False).client()


def test_the_same_numbers_again(launch, first, here, place):
    ended = launch(reproduce.main, "run=first", "out=new run", "run_it=false")
    assert ended.code == 0, ended.err
    assert not (place / "new run").exists()
    assert "trainer.max_epochs=1" in ended.out[0] and "out=" not in ended.out[0]
    assert "nothing has changed since: settings, data, commit, versions, machine" in ended.out
    ended = launch(reproduce.main, "run=first", "out=new run", "quiet=true")
    assert ended.code == 0, ended.err
    said = [line for line in ended.out if line.startswith("REPRODUCED: all ")]
    assert len(said) == 1 and int(said[0].split()[2]) > 50
    runs = first.search_runs(["1"], "tags.reproduces != ''")
    assert len(runs) == 1 and shlex.split(runs[0].data.tags["command"])[:3] == ["python", "-m", "koa_lightning.train"]


def test_another_seed_gives_others(launch, first, here):
    ended = launch(reproduce.main, "run=first", "out=new", "seed=5")
    assert ended.code == 1, ended.err
    text = "\n".join(ended.out)
    assert "what has changed since" in text and "seed" in text
    assert any(line.startswith("DIFFERS: ") and " values, by up to " in line for line in ended.out)


def test_settings_of_the_run_are_told_from_its_own():
    assert reproduce.with_more(["run=a", "data.root=a b", "out=x"]) == ["run=a", "out=x", "more=['data.root=a b']"]
    assert reproduce.with_more(["run=a", "run_it=false"]) == ["run=a", "run_it=false"]


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
    ended = launch(reproduce.main, *arguments)
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start)


def test_a_command_that_fails(launch, first, monkeypatch):
    monkeypatch.setattr(reproduce, "run_command", lambda arguments: 2)
    assert launch(reproduce.main, "run=first", "out=new").code == 2


def test_the_process(tmp_path):
    assert reproduce.run_command(["-c", "import sys; sys.exit(7)"]) == 7
    assert sys.executable
