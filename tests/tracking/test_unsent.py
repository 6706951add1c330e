"""What a run folder of somebody else may not send, and where."""

import json
import os
from pathlib import Path

import pytest

from koa_lightning.errors import InputError
from koa_lightning.tracking import unsent
from koa_lightning.tracking.resend import main
from koa_lightning.tracking.spool import Spool

HEADER = {"op": "run", "run_id": "0" * 32}


@pytest.fixture
def run_id(store):
    return store.client().create_run(store.experiment_id("knees")).info.run_id


@pytest.fixture
def folder(tmp_path):
    """A run folder with files of its own, and beside it what nobody else must get."""
    run = tmp_path / "runs" / "run"
    (run / "figures").mkdir(parents=True)
    (run / "own.txt").write_text("own")
    (run / "figures" / "a.txt").write_text("a")
    (tmp_path / "runs" / "run2").mkdir()
    for secret in (tmp_path / "secret.txt", tmp_path / "runs" / "run2" / "secret.txt"):
        secret.write_text("secret")
    return run


def artifact(local, folder=None):
    return {"op": "artifact", "local": str(local), "folder": folder}


def write(folder, uri, entries, run_id="0" * 32):
    lines = [json.dumps({**HEADER, "run_id": run_id, "uri": uri}), *map(json.dumps, entries)]
    (folder / "unsent.jsonl").write_text("\n".join(lines) + "\n")
    return (folder / "unsent.jsonl").read_bytes()


def refused(folder, capsys, *more):
    """Return the one line that `resend` says; the file stays as it was."""
    before = (folder / "unsent.jsonl").read_bytes()
    assert main([str(folder), *more]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ") and error.count("\n") == 1
    assert len(error) < 900
    assert (folder / "unsent.jsonl").read_bytes() == before
    return error


def test_own_files_are_sent(store, run_id, folder, capsys):
    sent = [
        artifact(folder / "own.txt"),
        artifact(folder / "figures", "all/of it"),
        artifact(folder / "figures/a.txt", "a"),
    ]
    write(folder, store.uri, sent, run_id)
    assert main([str(folder)]) == 0, capsys.readouterr().err
    names = {item.path for item in store.client().list_artifacts(run_id)}
    assert names == {"own.txt", "all", "a"}


@pytest.mark.parametrize(
    "local",
    [
        "{tmp}/secret.txt", "{run}/../../secret.txt", "{run}/../run2/secret.txt", "{run}2/secret.txt", "/etc/passwd",
        "secret.txt", "{run}/link.txt", "{run}/linked", "{run}/linked/secret.txt", "{run}/tree", "{run}/round", "{run}",
        "{run}/..", "/", "", "~/.ssh/id_rsa", "file:///etc/passwd", "http://169.254.169.254/latest", "{run}/a\0b",
        "{run}/" + "x" * 5000,
    ],
)  # fmt: skip
def test_no_other_file_is_sent(store, run_id, folder, tmp_path, capsys, local):
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "runs" / "run2")
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "deep" / "link").symlink_to(tmp_path / "secret.txt")
    (folder / "round").symlink_to(folder / "round")
    own = artifact(folder / "own.txt")
    write(folder, store.uri, [own, artifact(local.format(tmp=tmp_path, run=folder))], run_id)
    error = refused(folder, capsys)
    assert "line 3: " in error and "is not below the run folder" in error
    assert store.client().list_artifacts(run_id) == []  # not even what may be sent: somebody else wrote the file


@pytest.mark.parametrize(
    "where", ["../x", "a/../../x", "/x", "", "..", "C:/x", "C:\\x", "a\\..\\..\\x", "\\x", "a\0b", "a\nb"]
)
def test_nothing_is_put_outside_of_the_artifacts(store, run_id, folder, capsys, where):
    for entry in (artifact(folder / "own.txt", where), {"op": "text", "text": "x", "file": where}):
        write(folder, store.uri, [entry], run_id)
        assert "not a path among the artifacts" in refused(folder, capsys)


@pytest.mark.parametrize(
    "uri", ["http://evil.example", "https://me:pw@evil.example", "sqlite:////no/x.db", "databricks", "file:///tmp", ""]
)
def test_an_address_in_the_file_is_not_used(folder, capsys, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    write(folder, uri or "postgresql://evil", [artifact(folder / "own.txt")])
    error = refused(folder, capsys)
    assert "neither that of MLFLOW_TRACKING_URI nor a database on this machine" in error and "uri=ADDRESS" in error
    assert "pw" not in error


def test_nobody_is_asked(folder, listener, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "s3cret")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write(folder, listener.address, [artifact(folder / "own.txt")])
    refused(folder, capsys)
    assert listener.seen == []
    refused(folder, capsys, f"uri={listener.address}")  # typed, so it is asked, and says 404
    assert listener.seen
    del listener.seen[:]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", listener.address)  # configured
    refused(folder, capsys)
    assert listener.seen


def test_a_typed_address_wins(store, run_id, folder, capsys):
    write(folder, "http://evil.example", [artifact(folder / "own.txt")], run_id)
    assert main([str(folder), f"uri={store.uri}"]) == 0
    assert f"sent to {store.uri}" in capsys.readouterr().out


@pytest.mark.parametrize("typed", ["uri=", "url=http://x", "http://x", "=x"])
def test_another_argument_is_one_line(folder, capsys, typed):
    write(folder, "http://x", [])
    assert "must be uri=ADDRESS" in refused(folder, capsys, typed)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\n", b"\0" * 100, bytes(range(256)) * 40, b"\xff\xfe", b"[1, 2]\n", b"[" * 100_000, b"{" * 100_000,
        b'{"op":' * 100_000, b'"text"\n', b"null\n", b"5\n", b"9" * 10_000, b'{"op": "run"}\n',
        b'{"op": "run", "run_id": 5, "uri": "x"}\n', b'{"op": "run", "run_id": "x", "uri": 5}\n',
        b'{"op": "run", "run_id": ["x"], "uri": null}\n', b'{"op": "metrics"}\n',
        b'{"op": "run", "run_id": "x", "uri": "' + b"x" * 10_000_000 + b'"}\n',
    ],
)  # fmt: skip
def test_what_no_training_left_is_one_line(folder, capsys, content):
    (folder / "unsent.jsonl").write_bytes(content)
    assert "the first line names no run" in refused(folder, capsys)


@pytest.mark.sample(12)
@pytest.mark.parametrize(
    "line",
    [
        b"[]", b"5", b'"op"', b"null", b"[" * 100_000, b'{"op":' * 100_000, b"\xff\xfe\x00", b"\0" * 50, b"9" * 10_000,
        b"{}", b'{"op": "run", "run_id": "x", "uri": "x"}', b'{"op": "shell"}', b'{"op": 5}', b'{"op": ["tags"]}',
        b'{"op": "metrics"}', b'{"op": "metrics", "values": {"a": "1"}, "step": 0, "time": 1}',
        b'{"op": "metrics", "values": {"a": true}, "step": 0, "time": 1}',
        b'{"op": "metrics", "values": {"a": 1}, "step": "0", "time": 1}',
        b'{"op": "metrics", "values": {"a": 1}, "step": 0.5, "time": 1}',
        b'{"op": "metrics", "values": {"a": 1}, "step": 0, "time": 1' + b"0" * 300 + b"}",
        b'{"op": "metrics", "values": [1], "step": 0, "time": 1}', b'{"op": "params", "values": {"a": 1}}',
        b'{"op": "tags", "values": null}', b'{"op": "tags", "values": {"a": {}}}',
        b'{"op": "artifact", "folder": null}',
        b'{"op": "artifact", "local": 5, "folder": null}', b'{"op": "artifact", "local": ["x"], "folder": null}',
        b'{"op": "artifact", "local": "x", "folder": 5}', b'{"op": "text", "text": 5, "file": "x"}',
        b'{"op": "text", "text": "x"}', b'{"op": "dataset", "name": "x"}',
        b'{"op": "dataset", "name": "x", "digest": 5, "source": "x", "context": "x", "profile": {}}',
        b'{"op": "dataset", "name": "x", "digest": "x", "source": "x", "context": "x", "profile": []}',
        b'{"op": "status", "status": "DONE", "time": 1}', b'{"op": "status", "status": ["FINISHED"], "time": 1}',
        b'{"op": "status", "status": "FINISHED", "time": null}',
    ],
)  # fmt: skip
def test_an_entry_that_no_training_left_is_one_line(store, run_id, folder, capsys, line):
    write(folder, store.uri, [{"op": "tags", "values": {"a": "b"}}], run_id)
    with (folder / "unsent.jsonl").open("ab") as file:
        file.write(line + b"\n")
    assert f"{folder}/unsent.jsonl, line 3: " in refused(folder, capsys)
    assert "a" not in store.client().get_run(run_id).data.tags


def test_a_huge_line_is_one_line(store, run_id, folder, capsys):
    write(folder, store.uri, [], run_id)
    with (folder / "unsent.jsonl").open("ab") as file:
        file.write(b'{"op": "text", "text": "' + b"x" * unsent.LONGEST_LINE + b'", "file": "x"}\n')
    assert "line 2: longer than" in refused(folder, capsys)


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to nothing", "link to zeros"])
def test_what_is_no_file_is_one_line(folder, capsys, kind):
    file = folder / "unsent.jsonl"
    make = {
        "pipe": lambda: os.mkfifo(file), "folder": file.mkdir, "link to nothing": lambda: file.symlink_to("/no/where"),
        "link to zeros": lambda: file.symlink_to("/dev/zero"),
    }  # fmt: skip
    make[kind]()
    assert main([str(folder)]) == 2
    assert "is not a file" in capsys.readouterr().err


def test_a_line_that_a_crash_left_is_omitted(store, run_id, folder, capsys, caplog):
    for part in ('{"op": "met', "{", '{"o'):
        write(folder, store.uri, [{"op": "tags", "values": {"a": "b"}}], run_id)
        with (folder / "unsent.jsonl").open("a") as file:
            file.write(part)
        assert main([str(folder)]) == 0, capsys.readouterr().err
    assert "line 3: unfinished" in caplog.text


def test_a_training_that_continues_sends_no_other_file_either(begin, folder, tmp_path):
    first = begin()
    first.close()
    Spool(tmp_path / "run", first.run_id, "http://evil").append([artifact(tmp_path / "secret.txt")])
    with pytest.raises(InputError, match="is not below the run folder"):
        begin(run_id=first.run_id)


def test_the_command_to_send_it_later_names_the_server(begin, tmp_path, caplog, monkeypatch):
    run = begin()
    run.uri = "http://knees.example.org:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run._say_missing(["1 status"], [])
    assert f"resend {tmp_path}/run uri=http://knees.example.org:5000" in caplog.text
    caplog.clear()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@knees.example.org:5000/")
    run._say_missing(["1 status"], [])
    assert "uri=" not in caplog.text
    run.close()


def test_no_password_is_kept(tmp_path):
    spool = Spool(tmp_path, "id", "http://me:secret@host")
    spool.append([{"op": "tags", "values": {}}])
    assert "secret" not in Path(spool.path).read_text()
