import pytest

from koa_lightning.errors import InputError
from koa_lightning.tracking.runs import children, find_run, find_runs
from koa_lightning.tracking.store import open_store


@pytest.fixture
def here(place):
    return open_store(None, place / "mlruns", create=False)


def test_a_run_by_its_id_or_its_name(log_run, here):
    first, second = log_run("effb3-ce lr=1e-3"), log_run("it's")
    assert find_run(here, first).info.run_id == first
    assert find_run(here, f"runs:/{first}").info.run_id == first
    assert find_run(here, "effb3-ce lr=1e-3").info.run_id == first
    assert find_run(here, "it's").info.run_id == second


def test_runs_that_cannot_be_told(log_run, here):
    twins = [log_run("twin") for _ in range(7)]
    with pytest.raises(InputError, match="run=twin: 7 runs have this name; type the id of one: ") as error:
        find_run(here, "twin")
    assert twins[0] in str(error.value) and str(error.value).endswith("finished) and 2 more")
    for word, words in (("nobody", "no run of this id or name"), ("f" * 32, "no such run in"), (" ", "must be the id")):
        with pytest.raises(InputError, match=words):
            find_run(here, word)
    with pytest.raises(InputError, match="a name with both kinds of quotes cannot be searched for; type the run's id"):
        find_run(here, """it's "good\"""")
    log_run.client.delete_run(twins[0])
    with pytest.raises(InputError, match=r"was deleted; restore it: MLFLOW_TRACKING_URI=.* mlflow runs restore"):
        find_run(here, twins[0])
    assert len({run.info.run_id for run in find_runs(here, twins[1:])}) == 6


def test_a_search(log_run, here):
    good, bad = log_run("good", metrics={"best/mae": 0.4}), log_run("bad", metrics={"best/mae": 0.9})
    found = find_runs(here, [good], "metrics.`best/mae` < 0.5")
    assert [run.info.run_id for run in found] == [good]
    assert [run.info.run_id for run in find_runs(here, [bad], "metrics.`best/mae` < 0.5")] == [bad, good]
    for expression, words in (("metrics.mae <", "search=metrics.mae <: "), ("params.x = '1'", "finds no run")):
        with pytest.raises(InputError, match=words):
            find_runs(here, [], expression)


def test_children_page_by_page(log_run, here, monkeypatch):
    parent = log_run("sweep")
    jobs = [log_run(f"job {i}", parent=parent) for i in range(3)]
    log_run("other")
    client = here.client()
    ask = client.search_runs
    monkeypatch.setattr(client, "search_runs", lambda *args, **more: ask(*args, **more, max_results=2))
    assert [run.info.run_id for run in children(client, find_run(here, parent))] == jobs
