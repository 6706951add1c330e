import pytest

from koa_lightning.tracking.resend import main
from koa_lightning.tracking.spool import Spool


@pytest.fixture
def run_id(store):
    return store.client().create_run(store.experiment_id("knees")).info.run_id


def metrics(name, value):
    return {"op": "metrics", "values": {name: value}, "step": 0, "time": 1}


def test_folder_and_file_are_both_taken(store, run_id, tmp_path, capsys):
    for number, name in enumerate(["run", "run/unsent.jsonl"]):
        Spool(tmp_path / "run", run_id, store.uri).append([metrics(f"m{number}", 1.0)])
        assert main([str(tmp_path / name)]) == 0
        assert f"1 of 1 entries of run {run_id} sent" in capsys.readouterr().out
    assert store.client().get_run(run_id).data.metrics == {"m0": 1.0, "m1": 1.0}


def test_refused_entry_stays_and_is_named(store, run_id, tmp_path, capsys):
    spool = Spool(tmp_path, run_id, store.uri)
    spool.append([metrics("bad*name", 1.0), metrics("good", 1.0)])
    assert main([str(tmp_path)]) == 2
    assert "bad*name" in capsys.readouterr().err
    assert spool.read() == [metrics("bad*name", 1.0)]
    assert store.client().get_run(run_id).data.metrics == {"good": 1.0}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("sqlite:////no/such/folder/mlflow.db", "no such tracking database"),
        ("http://127.0.0.1:9", "does not answer"),
        ("ftp://127.0.0.1", "must be sqlite:///FILE.db or http(s)"),
    ],
)
def test_dead_store_is_one_line_and_the_file_stays(tmp_path, capsys, uri, words):
    spool = Spool(tmp_path, "0" * 32, uri)
    spool.append([metrics("a", 1.0)])
    before = spool.path.read_bytes()
    assert main([str(tmp_path), f"uri={uri}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert spool.path.read_bytes() == before


def test_wrong_folder_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_nothing_to_send_is_fine(tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    assert "nothing waits" in capsys.readouterr().out
