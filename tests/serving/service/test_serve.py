"""The command itself: its processes, its end, and what it refuses."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

from koa_lightning import DISCLAIMER
from koa_lightning.evaluation.predictor import load_model
from koa_lightning.metrics.predictions import PROBABILITIES
from koa_lightning.serving.service.serve import heat_map_methods

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def post(address, *files):
    """Send files as multipart form data; returns the answer's JSON."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in files
    ]
    request = urllib.request.Request(
        f"{address}/v1/grade", b"".join(parts) + b"--b--\r\n", {"content-type": "multipart/form-data; boundary=b"}
    )
    return json.loads(urllib.request.urlopen(request, timeout=120).read())


def wait_until_ready(address, process, log):
    while True:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/ready", timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


@pytest.mark.slow
def test_requests_under_way_are_finished_when_it_is_ended(served_checkpoint, radiographs, encoded, tmp_path):
    port, log = free_port(), tmp_path / "log"
    command = [sys.executable, "-m", "koa_lightning.serve", f"ckpt={served_checkpoint}", f"port={port}", "timeout=300"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_ready(address, process, log)
        files = [(f"{number}.png", encoded(pixels)) for number, pixels in enumerate(radiographs)]
        answers = []
        many = threading.Thread(target=lambda: answers.append(post(address, *files * 5)))
        many.start()
        while b"koa_batch_size_count 0.0" in urllib.request.urlopen(f"{address}/metrics").read():
            assert not answers  # else nothing is under way any more
        process.send_signal(signal.SIGTERM)
        many.join()
        assert process.wait(60) == 0
    finally:
        process.kill()
    [answer] = answers
    table = load_model(served_checkpoint).predict(radiographs)
    wanted = [[float(row[name]) for name in PROBABILITIES] for _, row in table.iterrows()] * 5
    assert [knee["probabilities"] for knee in answer["knees"]] == wanted
    lines = log.read_text().splitlines()
    assert lines[0] == "WARNING: the model carries the caveat: phantom data"
    assert f"{address}/" in lines[1] and DISCLAIMER in lines and lines[-1] == "stopped"
    assert len(lines) == 5  # nothing of a request
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log"]


def test_what_it_refuses_before_it_starts(launch, served_checkpoint, tmp_path):
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        port = used.getsockname()[1]
        for typed, said in (
            ([f"ckpt={served_checkpoint}", f"port={port}"], f"host=127.0.0.1 port={port}: Address already in use"),
            ([f"ckpt={tmp_path}/none.ckpt", f"port={free_port()}"], "none.ckpt"),
            ([f"ckpt={served_checkpoint}", "host=0.0.0.0"], "token=SECRET"),
            ([f"ckpt={served_checkpoint}", "films=always"], "films=always"),
            ([f"ckpt={served_checkpoint}", "max_megapixels=0"], "max_megapixels=0"),
            ([f"ckpt={served_checkpoint}", f"port={free_port()}", "refer_risk=0.1"], "refer_risk=0.1"),
            ([f"ckpt={served_checkpoint}", f"keep={served_checkpoint}"], "keep="),
            ([f"ckpt={served_checkpoint}", "prot=1"], "prot"),
        ):
            done = launch("serve", *typed)
            assert done.code == 2 and len(done.err) == 1 and said in done.err[0], (typed, done.err)
            assert done.err[0].startswith("error: ")


def test_heat_maps_are_those_that_all_members_have_and_that_are_quick(served_checkpoint):
    found = heat_map_methods(load_model(served_checkpoint))
    assert found["gradcam"] == "Grad-CAM" and "scorecam" not in found and len(found) >= 5
