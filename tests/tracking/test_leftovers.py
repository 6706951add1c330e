import json
import os
import signal
import subprocess
import sys
import time

import pytest

from koa_lightning.tracking import leftovers, owner

SLEEP = "import time; time.sleep(99)"
WORKER = (
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{SLEEP}', 'mlflow']); print(flush=True); {SLEEP}"
)


@pytest.fixture
def server():
    """A process with a worker, as MLflow's server is."""
    process = subprocess.Popen([sys.executable, "-c", WORKER, "mlflow"], start_new_session=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    until = time.monotonic() + 20
    while len(leftovers._members(process.pid)) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    yield process
    for pid in leftovers._members(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def killed():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = owner.this()._replace(pid=str(child.pid), started=owner.started(str(child.pid)))
    child.communicate()
    return process


def record(folder, server, process, port=5000):
    file = leftovers.record_file(folder, port)
    leftovers.write(file, server.pid, database=True)
    content = json.loads(file.read_text())
    assert owner.Process(**content["owner"]) == owner.this()
    file.write_text(json.dumps(content | {"owner": process._asdict()}))
    return file


def test_what_a_killed_server_left_is_ended(server, killed, tmp_path):
    file = record(tmp_path, server, killed)
    assert leftovers.end(tmp_path) == ([server.pid], True)
    assert leftovers._members(server.pid) == [] and not file.exists()
    assert leftovers.end(tmp_path) == ([], False)


def test_workers_whose_leader_has_ended(server, killed, tmp_path):
    record(tmp_path, server, killed)
    server.kill()
    server.wait()
    assert leftovers._members(server.pid)
    assert leftovers.end(tmp_path).processes == [server.pid]
    assert leftovers._members(server.pid) == []


def test_a_server_that_runs_is_left_alone(server, tmp_path):
    file = record(tmp_path, server, owner.this())
    assert leftovers.end(tmp_path) == ([], False)
    assert len(leftovers._members(server.pid)) == 2 and file.exists()


def test_another_process_of_the_same_number_is_left_alone(server, killed, tmp_path):
    file = record(tmp_path, server, killed)
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"server": [server.pid, "1"]}))
    assert leftovers.end(tmp_path) == ([], True)
    assert len(leftovers._members(server.pid)) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"owner": {}, "server": [1, ""]}', "[" * 99_999, '{"server": 3}'])
def test_a_record_that_no_server_wrote(content, tmp_path):
    leftovers.record_file(tmp_path, 1).write_text(content)
    assert leftovers.end(tmp_path) == ([], False)
