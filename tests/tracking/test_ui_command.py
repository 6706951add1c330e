import os
import socket
import sys

import pytest

from koa_lightning.serving import mlflow_server
from koa_lightning.tracking import ui


@pytest.fixture
def became(monkeypatch):
    """What the process would have become: the command and its environment."""
    found = []
    monkeypatch.setattr(os, "execve", lambda *call: found.append(call))
    return found


@pytest.fixture
def taken():
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        yield used.getsockname()[1]


def free():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fails(main, capsys, *typed):
    assert main(typed) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and out == ""
    return err.strip()


def test_the_pages(became, place, capsys):
    port = free()
    ui.main([f"port={port}"])
    [(program, command, environment)] = became
    assert (program, command[1:4]) == (sys.executable, ["-m", "mlflow", "ui"])
    assert f"sqlite:///{place}/mlruns/mlflow.db" in command and str(port) in command
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert capsys.readouterr().out.startswith(f"runs, best first: http://127.0.0.1:{port}/#/experiments/1/runs?")


@pytest.mark.slow
def test_a_model_is_served(became, log_run, write_checkpoint, launch, place):
    log_run("first", checkpoint=write_checkpoint(place / "best.ckpt"))
    assert launch("register", "run=first", "name=knees", "alias=champion").code == 0
    for model in ("knees@champion", "knees/1"):
        port = free()
        mlflow_server.main([f"model={model}", f"port={port}"])
        _, command, environment = became[-1]
        assert command[2:] == [
            *("mlflow", "models", "serve", "-m", f"models:/{model}", "--env-manager", "local"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        assert environment["MLFLOW_TRACKING_URI"] == f"sqlite:///{place}/mlruns/mlflow.db"
        assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "model",
    ["nosuch@x", "nosuch/1", "nosuch", "", "@", "/", "a@", "@b", "a/b", "a@b@c", "a/1/2", "../../etc/passwd", "knees@ö",
     "x'; DROP TABLE runs; --@champion", "a" * 3000 + "@b", "runs:/abc"],
)  # fmt: skip
def test_no_such_model(model, became, place, capsys):
    assert "odel=" in fails(mlflow_server.main, capsys, f"model={model}", f"port={free()}").lower() and became == []


def test_no_store_to_serve_from(became, place, capsys, monkeypatch):
    (place / "mlruns/mlflow.db").unlink()
    assert "no such tracking database" in fails(mlflow_server.main, capsys, f"port={free()}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "does not answer" in fails(mlflow_server.main, capsys, f"port={free()}")


@pytest.mark.parametrize("main", [ui.main, mlflow_server.main])
def test_a_port_in_use(main, taken, became, place, capsys):
    line = fails(main, capsys, f"port={taken}")
    assert line.startswith(f"error: host=127.0.0.1 port={taken}: Address already in use")
    assert f"process {os.getpid()}" in line and line.endswith("type PORT=NUMBER for another")


@pytest.mark.parametrize("main", [ui.main, mlflow_server.main])
@pytest.mark.parametrize("typed", ["port=0", "port=x", "port=", "port=-1", "port=99999999999", "port=²", "prot=1", "1"])
def test_a_bad_port(main, typed, became, place, capsys):
    assert typed in fails(main, capsys, typed)
