import re
from types import SimpleNamespace

import pytest

from koa_lightning.config.trial import COMPLETE, FAILED
from koa_lightning.sweeps import outcomes
from koa_lightning.sweeps.outcomes import DiedError, Outcomes, with_values


def job(value):
    return SimpleNamespace(_return_value=value)


def test_what_a_job_reported_is_taken_as_it_is():
    said = {"state": COMPLETE, "result": 0.5}
    assert Outcomes().read(job(said)) is said


@pytest.mark.parametrize(
    ("value", "error"), [(None, "the job left no result"), (5, "the job left no result"), (DiedError("gone"), "gone")]
)
def test_a_job_that_died(value, error):
    assert Outcomes().read(job(value)) == {"state": FAILED, "error": error, "error_kind": "error"}


def test_a_job_that_died_while_the_machine_had_no_memory(monkeypatch):
    kills = iter([3, 4, 4])
    monkeypatch.setattr(outcomes, "out_of_memory_kills", lambda: next(kills))
    read = Outcomes()
    first, second = read.read(job(DiedError("died"))), read.read(job(DiedError("died")))
    assert first["error_kind"] == "out_of_memory" and "no memory left" in first["error"]
    assert second["error_kind"] == "error"


def test_an_error_of_the_job_itself():
    found = Outcomes().read(job(ValueError("bad")))
    assert found["state"] == FAILED and "bad" in found["error"]


@pytest.mark.parametrize(
    ("result", "names", "values"),
    [(0.5, ["a"], [0.5]), ([1, 2], ["a", "b"], [1.0, 2.0]), ({"a": 1, "b": 2}, ["b", "seconds"], [2.0, 9.0])],
)
def test_values_in_the_order_of_the_metrics(result, names, values):
    assert with_values({"result": result, "seconds": 9.0}, names)["values"] == values


@pytest.mark.parametrize(
    ("result", "names", "error", "kind"),
    [
        ({"loss": 1.0}, ["los"], "los: no job reports this metric.*loss", "bad_input"),
        ("text", ["a", "b"], "a: no job reports this metric .reported: no number", "bad_input"),
        (float("nan"), ["a"], "a is nan", "diverged"),
    ],
)
def test_values_that_are_not_there(result, names, error, kind):
    found = with_values({"result": result, "seconds": 9.0}, names)
    assert found["error_kind"] == kind
    assert re.match(error, found["error"])
