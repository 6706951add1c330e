"""Run the tests one after the other, time each, and reuse finished ones after an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from koa_lightning.config import json_files, run_files
from koa_lightning.config.places import replace_text
from koa_lightning.data.preprocessing import Preprocessing
from koa_lightning.models.net import KneeNet

FILE = "explanations.part.json"


class Stages:
    """Runs tests by name; the result of a test that was finished earlier, with the same key, is read from the file.

    Attributes:
        seconds: Seconds that each test took.

    Args:
        file: Where finished tests are kept until all are finished; None: nowhere.
        key: Identifies network, knees, preprocessing and options; results under another key are discarded.
        tell: Called with one line after each test.
    """

    def __init__(self, file: Path | None, key: str, tell: Callable[[str], Any]) -> None:
        self.file, self.key, self.tell, self.start = file, key, tell, time.perf_counter()
        self.done: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if file is not None and file.is_file():
            kept = json_files.read(file, run_files.EXPLANATIONS, "remove it to start the tests again")
            if kept["key"] == key:
                self.done, self.seconds = kept["done"], kept["seconds"]
                tell(f"resuming {file}: {', '.join(self.done)} done")

    def __call__(self, name: str, test: Callable[[], Any]) -> Any:
        """Return the result of a test as plain values; arrays of numbers become lists."""
        if name not in self.done:
            start = time.perf_counter()
            self.done[name] = _plain(test())
            self.seconds[name] = round(time.perf_counter() - start, 1)
            self.tell(f"{name}: {self.seconds[name]:.0f} s")
            self._keep()
        return self.done[name]

    def total(self) -> dict[str, float]:
        """Return the seconds of each test and of all, and delete the file."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)
        return {**self.seconds, "total": round(sum(self.seconds.values()), 1)}

    def _keep(self) -> None:
        if self.file is None:
            return
        replace_text(self.file, json.dumps({"key": self.key, "done": self.done, "seconds": self.seconds}))


def key_of(net: KneeNet, paths: Sequence[str], preprocessing: Preprocessing, options: object) -> str:
    """Return a key of a network's weights, the knees, their preprocessing, and the options."""
    digest = hashlib.blake2b(repr([list(paths), preprocessing, options]).encode(), digest_size=16)
    for name, values in net.state_dict().items():
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _plain(node: Any) -> Any:
    """Return a result after a round trip through JSON, so that a resumed run has the same numbers."""
    return json.loads(json.dumps(node, default=np.ndarray.tolist))
