import os
import subprocess
import sys

import pytest

from koa_lightning.tracking import owner
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store


@pytest.fixture
def ended():
    """A process of this machine that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = owner.this()._replace(pid=str(child.pid), started=owner.started(str(child.pid)))
    assert not owner.has_ended(process)
    child.communicate()
    return process


def test_this_process_is_there():
    here = owner.this()
    assert owner.of(here.tags()) == here and not owner.has_ended(here)
    assert here.pid == str(os.getpid()) and here.started == owner.started(here.pid)


def test_a_process_that_ended_is_gone(ended):
    assert owner.has_ended(ended)


def test_another_process_of_the_same_number(monkeypatch):
    assert owner.has_ended(owner.this()._replace(started="1"))


def test_nothing_is_known_of_other_machines(ended):
    assert not owner.has_ended(ended._replace(host="elsewhere 123456"))
    assert not owner.has_ended(ended._replace(space="pid:[1]"))  # a container of this machine


def test_a_machine_that_was_started_anew(ended, monkeypatch):
    before = ended._replace(boot="another")
    monkeypatch.setattr(owner, "_fingerprint", lambda: "abc")
    assert owner.has_ended(before._replace(host=owner.host()))
    assert not owner.has_ended(before._replace(host=f"{owner.host()}d"))
    monkeypatch.setattr(owner, "_fingerprint", lambda: "-")  # two containers may have the same name
    assert not owner.has_ended(before._replace(host=owner.host()))


@pytest.mark.parametrize("tags", [{}, {"process.pid": "1"}, {**owner.this().tags(), "process.boot": "unknown"}])
def test_a_run_that_names_no_process(tags):
    assert owner.of(tags) is None


@pytest.mark.parametrize("pid", ["", "x", "../1", "-1", "99999999999"])
def test_no_such_process(pid):
    assert owner.started(pid) == owner.UNKNOWN


def test_opening_a_store_closes_runs_whose_process_is_gone(store, ended, tmp_path, log_run_of):
    own = start_run(store, "knees", "own", tmp_path / "own")
    killed = log_run_of(store, "killed", ended)
    elsewhere = log_run_of(store, "elsewhere", ended._replace(host="elsewhere 123456"))
    old = log_run_of(store, "of an older version", None)
    client = open_store(store.uri, tmp_path, create=False).client()
    states = {client.get_run(run).info.run_name: client.get_run(run).info.status for run in (killed, elsewhere, old)}
    assert states == {"killed": "KILLED", "elsewhere": "RUNNING", "of an older version": "RUNNING"}
    assert client.get_run(own.run_id).info.status == "RUNNING"
    assert owner.of(client.get_run(own.run_id).data.tags) == owner.this()
    own.close()
    assert client.get_run(own.run_id).info.status == "FINISHED"


@pytest.fixture
def log_run_of():
    def log(store, name, process):
        tags = process.tags() if process else {}
        return store.client().create_run(store.experiment_id("knees"), run_name=name, tags=tags).info.run_id

    return log


def test_a_resumed_run_has_the_process_that_continues(store, ended, tmp_path, log_run_of):
    run_id = log_run_of(store, "killed", ended)
    store.close_orphans()
    going_on = start_run(store, "knees", None, tmp_path / "run", run_id=run_id)
    assert store.client().get_run(run_id).info.status == "RUNNING"
    going_on.close("KILLED")
    tags = store.client().get_run(run_id).data.tags
    assert owner.of(tags) == owner.this() and not any(name.startswith("resumed.process") for name in tags)


def test_what_is_added_to_a_run_does_not_change_whose_it_is(store, ended, tmp_path, log_run_of):
    run_id = log_run_of(store, "trained", ended)
    store.client().set_terminated(run_id)
    start_run(store, "knees", None, tmp_path / "run", run_id=run_id, attach=True).close()
    assert owner.of(store.client().get_run(run_id).data.tags) == ended


def test_a_store_that_takes_nothing_stays_as_it_is(store, ended, log_run_of, monkeypatch):
    log_run_of(store, "killed", ended)

    class ReadOnly:
        def __getattr__(self, name):
            if name == "set_terminated":
                raise OSError("attempt to write a readonly database")
            return getattr(client, name)

    client = store.client()
    monkeypatch.setattr(type(store), "client", lambda self: ReadOnly())
    assert store.close_orphans() == []
