"""Requests per second with batching against one at a time, latency at 8 clients, and memory after many requests.

    python -m benchmarks.serve

Two services of the same checkpoint (Lite0, 224 px, untrained) listen on this machine: one grades up to 16 images
together, the other one at a time. The same 8 clients send single radiographs to them by turns, each over a connection
that stays open; while one is measured, the other waits. Memory is the unique set size of the service and its worker.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

CLIENTS = 8
ROUNDS, PER_ROUND = 5, 160  # requests
FEW, MANY = 200, 2000  # requests
SIZE = 224
FASTER, GROWN = 2.0, 1.1
START_SECONDS = 600.0


def measure() -> list[dict]:
    """Rows {name, ratio, goal, detail}; the first ratio is requests per second with batching over those without."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        checkpoint = _checkpoint(Path(folder))
        batched = stack.enter_context(_service(checkpoint, batch_size=16))
        single = stack.enter_context(_service(checkpoint, batch_size=1))
        files = _radiographs()
        grown, detail = _memory(batched, files)
        _send(single, files, 2 * CLIENTS)
        rates: dict[int, list[float]] = {batched.port: [], single.port: []}
        seconds: list[float] = []
        for _ in range(ROUNDS):
            for service in (batched, single):
                rate, took = _send(service, files, PER_ROUND)
                rates[service.port].append(rate)
                seconds += took if service is batched else []
    together, alone = (statistics.median(rates[service.port]) for service in (batched, single))
    ratios = [a / b for a, b in zip(rates[batched.port], rates[single.port], strict=True)]
    p95 = float(np.quantile(seconds, 0.95))
    return [
        {
            "name": "service, batches against one at a time",
            "ratio": statistics.median(ratios),
            "goal": FASTER,
            "detail": f"{together:.0f} and {alone:.0f} requests/s, {CLIENTS} clients; p95 {1000 * p95:.0f} ms",
        },
        {"name": "service, memory", "ratio": grown, "goal": GROWN, "detail": detail, "lower": True},
    ]


class _Service:
    """A running service.

    Attributes:
        port: On this machine.
        process: That listens; its worker is its child.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    def megabytes(self) -> float:
        """Return the unique set size of the service and its worker."""
        own = psutil.Process(self.process.pid)
        return sum(each.memory_full_info().uss for each in (own, *own.children(recursive=True))) / 2**20


def _checkpoint(folder: Path) -> Path:
    typed = (
        "experiment=demo", "model.weights=none", f"data.image_size={SIZE}", "data.source.n_patients=60",
        "trainer=cpu", "trainer.precision=fp32", "trainer.max_epochs=1", "trainer.limit_train_batches=1",
        "explain=none", "tracking=none", "quiet=true", f"out={folder / 'run'}",
    )  # fmt: skip
    subprocess.run([sys.executable, "-m", "koa_lightning.train", *typed], check=True, stdout=subprocess.DEVNULL)
    return folder / "run" / "checkpoints" / "best.ckpt"


@contextmanager
def _service(checkpoint: Path, batch_size: int) -> Iterator[_Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    typed = (f"ckpt={checkpoint}", f"port={port}", f"batch_size={batch_size}")
    command = [sys.executable, "-m", "koa_lightning.serve", *typed]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait(port, process)
        yield _Service(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # it does not listen yet
        time.sleep(0.2)
    raise RuntimeError(f"the service on port {port} does not start")


def _radiographs() -> list[bytes]:
    """Return 32 phantoms as requests."""
    from koa_lightning.data.cache import decode_phantoms
    from koa_lightning.data.phantom.manifest import phantom_manifest

    bodies = []
    for pixels in decode_phantoms(phantom_manifest(16, 0, (0.2,) * 5)["path"].tolist()[:32], SIZE):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="knee.png"\r\n\r\n'
        bodies.append(head + file.getvalue() + b"\r\n--b--\r\n")
    return bodies


def _send(service: _Service, bodies: list[bytes], n: int) -> tuple[float, list[float]]:
    """Send n requests by all clients; return requests per second, and the seconds of each."""
    seconds: list[list[float]] = [[] for _ in range(CLIENTS)]
    faults: list[str] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=300)
        for turn in range(n // CLIENTS):
            began = time.perf_counter()
            body = bodies[(number + turn * CLIENTS) % len(bodies)]
            connection.request("POST", "/v1/grade", body, {"Content-Type": "multipart/form-data; boundary=b"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 200 or json.loads(text)["knees"][0]["grade"] is None:
                faults.append(text.decode())
                return
            seconds[number].append(time.perf_counter() - began)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    began = time.perf_counter()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    if faults:
        raise RuntimeError(f"a request failed: {faults[0]}")
    done = [each for of_one in seconds for each in of_one]
    return len(done) / (time.perf_counter() - began), done


def _memory(service: _Service, bodies: list[bytes]) -> tuple[float, str]:
    """Return the memory of a fresh service after many requests over that after few."""
    _send(service, bodies, FEW)
    few = service.megabytes()
    _send(service, bodies, MANY - FEW)
    many = service.megabytes()
    return many / few, f"{few:.0f} MB after {FEW} and {many:.0f} MB after {MANY} requests"


if __name__ == "__main__":
    from benchmarks.run import print_table

    print_table(measure())
