"""With a real server that is killed while a run is being logged."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from koa_lightning.tracking.resend import main as resend
from koa_lightning.tracking.run import start_run
from koa_lightning.tracking.store import open_store, why_unreachable

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@contextlib.contextmanager
def serving(store, port):
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", store.uri, "--artifacts-destination", str(store.artifacts)]
    server = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            if not why_unreachable(f"http://127.0.0.1:{port}"):
                break
            time.sleep(0.5)
        else:
            pytest.skip("the server does not start here within a minute")
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_killed_server_costs_nothing_but_a_resend(store, tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "best.ckpt").write_text("weights")
    with serving(store, port):
        run = start_run(open_store(f"http://127.0.0.1:{port}", tmp_path), "knees", "first", tmp_path / "run")
        run.log_params({"lr": 0.1})
        run.log_metrics({"loss": 1.0}, 0)
    for step in range(1, 5):
        run.log_metrics({"loss": 1.0 / (step + 1)}, step)
    run.log_artifact(tmp_path / "best.ckpt", "checkpoints")
    assert "artifact checkpoints/best.ckpt" in run.close()
    assert resend([str(tmp_path / "run")]) == 2
    with serving(store, port):
        assert resend([str(tmp_path / "run")]) == 0
        assert resend([str(tmp_path / "run")]) == 0
    capsys.readouterr()
    client = store.client()
    rows = client.get_metric_history(run.run_id, "loss")
    assert [(row.step, row.value) for row in rows] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert list(store.artifacts.rglob("best.ckpt"))
