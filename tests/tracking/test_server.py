import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from filelock import FileLock

from koa_lightning.config.compose import compose
from koa_lightning.errors import InputError
from koa_lightning.tracking import postgres as postgres_server
from koa_lightning.tracking import server
from koa_lightning.tracking.checkpoints import find_checkpoint
from koa_lightning.tracking.resend import resend
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store, why_unreachable


@pytest.fixture
def psycopg():
    return pytest.importorskip("psycopg")


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        (["database=mysql://h/db"], "error: database=mysql://h/db: must be postgresql://USER:PASSWORD@HOST:PORT/NAME"),
        (["database=postgresql://me:secret@127.0.0.1:1/db"], "error: database=postgresql://127.0.0.1:1/db: "),
        (["port=0"], "error: port=0: must be a whole number from 1 to 65535"),
        (["prot=1"], "error: prot: no such key in the configuration; did you mean 'port'?"),
    ],
)
def test_bad_input_is_one_line(arguments, start, launch, place, psycopg):
    ended = launch("server", f"port={postgres_server.free_port()}", "folder=here", *arguments)
    assert (ended.code, len(ended.err)) == (2, 1), ended.err
    assert ended.err[0].startswith(start) and "secret" not in ended.err[0]


def test_a_port_in_use(launch, place):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        ended = launch("server", f"port={used.getsockname()[1]}", "folder=here")
    assert ended.code == 2 and ended.err[0].startswith("error: host=127.0.0.1 port=")
    assert ended.err[0].endswith("type port=NUMBER for another") and not (place / "here").exists()


def test_a_database_that_lets_nobody_in(postgres, postgres_url, psycopg):
    server.check_database(postgres_url)
    server.check_database(postgres_url.replace("+psycopg", ""))
    with pytest.raises(InputError, match=r"database=postgresql\+psycopg://127.0.0.1:\d+/koa_\w+: .*password") as error:
        server.check_database(postgres_url.replace(postgres.password, "guessed"))
    assert "guessed" not in str(error.value)
    with pytest.raises(InputError, match='database "nowhere" does not exist'):
        server.check_database(postgres.url("nowhere"))


def test_a_machine_without_the_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(InputError, match=r"the driver of PostgreSQL is missing; type pip install"):
        server.check_database("postgresql://h/db")


@pytest.fixture
def served(monkeypatch, place):
    """Serve a folder with a PostgreSQL that only notes what is done; returns the notes."""
    notes = []

    class Cluster:
        up = False

        def runs(self):
            return Cluster.up

        def start(self):
            Cluster.up = True

        def create(self, name):
            return f"postgresql://h/{name}"

        def stop(self):
            Cluster.up = False
            notes.append("stopped")

    monkeypatch.setattr(postgres_server, "make", lambda folder: Cluster())
    monkeypatch.setattr(server, "check_database", lambda address: None)
    monkeypatch.setattr(server, "_run", lambda cfg, database, artifacts: notes.append(database) or 0)

    def serve(*more):
        return server.serve(compose("server", [f"port={postgres_server.free_port()}", "folder=here", *more]))

    return SimpleNamespace(serve=serve, notes=notes, cluster=Cluster)


def test_a_folder_has_one_server(served, place):
    (place / "here").mkdir()
    with FileLock(place / "here/.lock"):
        with pytest.raises(InputError, match=r"folder=.*here: another koa-server serves it; use that one, or stop it"):
            served.serve()
        assert served.notes == []
        assert served.serve("database=postgresql://h/own") == {"exit_code": 0}  # of others, who may serve it twice
    assert served.serve() == {"exit_code": 0}
    assert served.notes == ["postgresql://h/own", "postgresql://h/mlflow", "stopped"]
    assert served.serve() == {"exit_code": 0}


def test_a_database_that_ran_before_runs_on(served, capsys):
    served.cluster.up = True
    served.serve()
    assert served.notes == ["postgresql://h/mlflow"] and served.cluster.up
    assert "PostgreSQL was already running, and keeps running" in capsys.readouterr().out


def test_a_database_that_does_not_start_says_so(served, monkeypatch):
    def fail(self):
        raise InputError("no room")

    monkeypatch.setattr(served.cluster, "start", fail)
    with pytest.raises(InputError, match="no room"):
        served.serve()
    assert served.notes == []


def test_a_server_that_cannot_start(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"], start_new_session=True)
    with pytest.raises(InputError, match=r"does not start \(exit code 3\)"):
        server._wait(process, "http://127.0.0.1:9", lambda *_: "refused")
    server.end(process)


def test_what_does_not_want_to_end_is_ended(monkeypatch):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(99)"
    process = subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True, stdout=subprocess.PIPE)
    process.stdout.readline()
    monkeypatch.setattr(server, "END_SECONDS", 0.2)
    server.end(process)
    assert process.returncode == -signal.SIGKILL


class Server:
    """`python -m koa_lightning.server` on the database of a test."""

    def __init__(self, database, folder, env):
        self.port = postgres_server.free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        words = [f"database={database}", f"folder={folder}", f"port={self.port}", "workers=1"]
        self._command = [sys.executable, "-m", "koa_lightning.server", *words]
        self._env = env
        self._folder = folder

    def start(self, line=""):
        """Start it; wait until it has said this line and answers."""
        self._log = (self._folder / "log.txt").open("ab")
        self._process = subprocess.Popen(self._command, env=self._env, stdout=self._log, stderr=self._log)
        until = time.monotonic() + server.START_SECONDS
        while line not in (self._folder / "log.txt").read_text() or why_unreachable(self.uri, 3):
            assert self._process.poll() is None and time.monotonic() < until, (self._folder / "log.txt").read_text()
            time.sleep(0.5)

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._log.close()

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(60)
        self._log.close()
        return code


@pytest.mark.slow
def test_two_users_at_once_and_a_restart_in_the_middle(postgres_url, place, tiny, with_package, psycopg):
    (place / "mlserver").mkdir()
    mlflow = Server(postgres_url, place / "mlserver", with_package)
    more = ["trainer.max_epochs=6", "explain=none", f"tracking.uri={mlflow.uri}"]

    def train(i):
        own = [f"name=user {i}", f"seed={i}", f"out={place}/user {i}"]
        command = [sys.executable, "-m", "koa_lightning.train", *tiny.overrides, *more, *own]
        env = with_package | {"KOA_CACHE": os.environ["KOA_CACHE"], "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, capture_output=True, text=True, cwd=place, env=env, check=False)

    try:
        mlflow.start()
        with ThreadPoolExecutor(2) as both:
            runs = [both.submit(train, i) for i in range(2)]
            client = open_store(mlflow.uri, place, create=False).client()
            until = time.monotonic() + 300
            while not _logged(client, "val/loss") and not all(run.done() for run in runs):
                assert time.monotonic() < until
                time.sleep(0.2)
            assert mlflow.stop() == 0  # as Ctrl-C does; both continue meanwhile
            mlflow.start()
            done = [run.result() for run in runs]
        assert [one.returncode for one in done] == [0, 0], done[0].stderr + done[1].stderr
        for i in range(2):
            resent = [sys.executable, "-m", "koa_lightning.tracking.resend", f"{place}/user {i}", f"uri={mlflow.uri}"]
            assert subprocess.run(resent, env=with_package, check=False).returncode == 0
        found = client.search_runs(["1"], order_by=["attributes.run_name ASC"])
        assert [run.info.run_name for run in found] == ["user 0", "user 1"]
        for i, run in enumerate(found):
            assert (run.info.status, run.data.params["seed"], run.data.tags["marks"].split(", ")[0]) == (
                "FINISHED",
                str(i),
                "phantom data",
            )
            epochs = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "val/loss")]
            assert [step for step, _ in sorted(set(epochs))] == list(range(6))
            best = find_checkpoint(f"runs:/{run.info.run_id}", mlflow.uri, place)
            assert best.read_bytes() == (place / f"user {i}/checkpoints/best.ckpt").read_bytes()
    finally:
        mlflow.stop()


@pytest.mark.slow
def test_forty_runs_write_at_once_and_nothing_is_lost(postgres_url, place, with_package, psycopg):
    (place / "mlserver").mkdir()
    mlflow = Server(postgres_url, place / "mlserver", with_package)

    def write(number):
        run = start_run(opened, "many", f"run {number}", place / f"{number}")
        run.log_params({"number": number})
        for epoch in range(20):
            run.log_metrics({"val/loss": number + epoch, "val/mae": epoch}, epoch)
        return run.run_id, run.close()

    try:
        mlflow.start()
        opened = open_store(mlflow.uri, place, create=False)
        with ThreadPoolExecutor(40) as pool:
            ended = list(pool.map(write, range(40)))
        for number, (_, missing) in enumerate(ended):
            if missing:  # the server was too busy for it; what it did not take waits in the run folder
                resend(place / f"{number}", mlflow.uri)
        client = opened.client()
        for number, (run_id, _) in enumerate(ended):
            assert client.get_run(run_id).info.status == "FINISHED"
            rows = client.get_metric_history(run_id, "val/loss")
            assert [(row.step, row.value) for row in rows] == [(epoch, number + epoch) for epoch in range(20)]
    finally:
        mlflow.stop()


def _logged(client, metric):
    return [run for run in client.search_runs(["1"]) if metric in run.data.metrics]


@pytest.mark.slow
def test_one_command_makes_a_server_with_a_database_of_its_own(with_package, psycopg, tmp_path_factory):
    try:
        postgres_server.find_programs()
    except InputError as reason:
        pytest.skip(str(reason))
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory(prefix="koa-server-") as name:  # where the server's user may enter, if we are root
        folder = Path(name)
        folder.chmod(0o755)
        mlflow = Server("null", folder, with_package)
        try:
            mlflow.start()
            client = open_store(mlflow.uri, folder, create=False).client()
            run = client.create_run(client.create_experiment("knees")).info.run_id
            client.log_text(run, "kept", "note.txt")
        finally:
            assert mlflow.stop() == 0
        log = (folder / "log.txt").read_text()
        assert "PostgreSQL stopped; its data stays in" in log and "train into it by tracking.uri=" in log
        assert "research use only, not a medical device" in log
        try:
            mlflow.start()
            assert client.get_run(run).info.run_id == run
            assert [path.read_text() for path in (folder / "artifacts").rglob("note.txt")] == ["kept"]
            mlflow.kill()  # what it has started runs on, and holds the port
            assert not why_unreachable(mlflow.uri, 3)
            mlflow.start("that a killed koa-server had left running")
            assert client.get_run(run).info.run_id == run
        finally:
            assert mlflow.stop() == 0
        log = (folder / "log.txt").read_text()
        said = r"ended the MLflow server \(process \d+\) that a killed koa-server had left running"
        assert len(re.findall(said, log)) == 1
        assert log.count("PostgreSQL stopped; its data stays in") == 2
        assert not postgres_server.make(folder / "postgres").runs()
