import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from koa_lightning.config import trial
from koa_lightning.errors import DivergedError, InputError
from koa_lightning.sweeps import trial as sweeps_trial
from koa_lightning.sweeps.outcomes import with_values


@pytest.fixture
def given(monkeypatch):
    monkeypatch.setattr(trial, "_said", set())

    def tell(**known):
        one = trial.Trial(**known)
        monkeypatch.setenv(trial.VARIABLE, one.dumps())
        return one

    return tell


def test_what_a_job_is_told_comes_back(given, monkeypatch):
    one = given(sweep="a 'b'", number=3, varied=("loss", "+x"), metrics=("val/m",), pruner={"_target_": "p"})
    assert trial.current() == one
    monkeypatch.delenv(trial.VARIABLE)
    assert trial.current() is None


def test_only_its_own_run_is_the_trial(given, tmp_path):
    given(sweep="mine", folder=str(tmp_path / "3"))
    assert trial.of_run(tmp_path / "3") is not None
    assert trial.of_run(tmp_path / "3" / "fold_0") is None
    given(varied=("loss",))  # Hydra's grid has no trials
    assert trial.of_run(tmp_path) is None


def test_what_all_jobs_of_a_sweep_would_say_is_said_once(given, monkeypatch, capsys):
    given(sweep="one", number=0)
    for number in range(3):
        given(sweep="one", number=number)
        trial.say_once("WARNING: phantom data", warning=True)
        trial.say_once(f"net {number // 2}")
    given(sweep="two")
    trial.say_once("net 0")
    monkeypatch.delenv(trial.VARIABLE)
    for _ in range(2):
        trial.say_once("alone")
    said = capsys.readouterr()
    assert said.out.splitlines() == ["net 0", "net 1", "net 0", "alone", "alone"]
    assert said.err.splitlines() == ["WARNING: phantom data"]


def _say(program, place):
    subprocess.run([sys.executable, "-c", program], stdout=place, stderr=place, check=True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("of", ["sweep", "cross-validation"])
def test_processes_that_print_to_one_place_say_a_line_once(of, given, tmp_path, monkeypatch):
    if of == "sweep":
        given(sweep="one")
    else:
        monkeypatch.delenv(trial.VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(trial.__file__).parents[2]))
    program = "from koa_lightning.config import trial; trial.say_once('net'); trial.say_once('bad', warning=True)"
    shared, own = tmp_path / "terminal", tmp_path / "log.txt"
    with shared.open("w") as terminal, own.open("w") as log:
        with trial.saying_together():
            with trial.saying_together():  # folds of a sweep's job
                _say(program, terminal)
            for place in (terminal, log):
                _say(program, place)
        assert trial.SAID_VARIABLE not in os.environ
        with trial.saying_together():  # the next sweep
            _say(program, terminal)
    assert shared.read_text().split() == ["net", "bad"] * 2
    assert own.read_text().split() == ["net", "bad"]


def test_what_cannot_be_noted_is_said(given, tmp_path, monkeypatch, capsys):
    given(sweep="one")
    monkeypatch.setenv(trial.SAID_VARIABLE, str(tmp_path / "of another machine"))
    trial.say_once("net")
    assert capsys.readouterr().out == "net\n"


def test_what_differs(given):
    one = given(varied=("loss", "+optimizer.lr"))
    assert one.differs(["loss=ce", "seed=1", "optimizer.lr=3"]) == ["loss=ce", "optimizer.lr=3"]


def test_reporting_outside_of_a_sweep_does_nothing(given, monkeypatch):
    monkeypatch.delenv(trial.VARIABLE, raising=False)
    assert sweeps_trial.report(1.0, 0) is False
    given(sweep="mine", repeat=1)
    assert sweeps_trial.report(1.0, 0) is False
    given(sweep="mine")
    assert sweeps_trial.report(math.nan, 0) is False


class OutOfMemoryError(RuntimeError):
    """As torch calls its own."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out_of_memory"),
        (OutOfMemoryError("CUDA out of memory."), "out_of_memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
            "out_of_memory",
        ),
        (ValueError("out of memory of my own"), "error"),
        (DivergedError("the training loss became nan"), "diverged"),
        (FloatingPointError("overflow"), "diverged"),
        (InputError("x: no"), "bad_input"),
        (RuntimeError("size mismatch"), "error"),
    ],
)
def test_kinds_of_errors(error, kind, capsys):
    def fails(cfg):
        raise error

    outcome = trial.Job(fails)(None)
    assert (outcome["state"], outcome["error_kind"]) == (trial.FAILED, kind)
    assert "\n" not in outcome["error"] and outcome["seconds"] >= 0
    assert ("Traceback" in capsys.readouterr().err) == (kind == "error")
    wrapped = RuntimeError("around")
    wrapped.__cause__ = error
    assert trial.kind_of(wrapped) == (kind if kind in ("out_of_memory", "diverged") else trial.kind_of(wrapped))


def test_tags_of_an_error(given, monkeypatch):
    monkeypatch.delenv(trial.VARIABLE, raising=False)
    assert trial.error_tags(InputError("x: no")) == {"error": "x: no", "error_kind": "bad_input"}
    given(sweep="mine")
    assert trial.error_tags(InputError("x: no"))["sweep.state"] == "failed"
    assert trial.state_tags(trial.PRUNED) == {"sweep.state": "pruned"}


def test_results_go_through_any_launcher():
    result = trial.Job(lambda cfg: {"a": os, "b": (1, 2), "c": None, "d": True, "pruned": True})(None)
    assert result["state"] == trial.PRUNED
    assert result["result"]["b"] == [1.0, 2.0] and result["result"]["c"] is None and result["result"]["d"] is True
    assert isinstance(result["result"]["a"], str)


def test_values_by_name_and_by_place():
    done = {"state": "complete", "seconds": 2.0}
    assert with_values({**done, "result": {"m": 1.0}}, ["m", "seconds"])["values"] == [1.0, 2.0]
    assert with_values({**done, "result": [1.0, 3.0]}, ["a", "b"])["values"] == [1.0, 3.0]
    assert with_values({**done, "result": 1.0}, ["a"])["values"] == [1.0]
    assert with_values({**done, "result": None}, ["a"])["error_kind"] == "bad_input"
    assert with_values({**done, "result": math.inf}, ["a"])["error"] == "a is inf"


def test_a_pruner_that_cannot_be_made():
    assert sweeps_trial.make_pruner(None) is None and sweeps_trial.make_pruner({}) is None
    with pytest.raises(InputError, match=r"sweep.pruner: "):
        sweeps_trial.make_pruner({"_target_": "optuna.pruners.MedianPruner", "speed": 2})
