"""One of the further processes of a training on several devices, started by `koa_lightning.training.ranks`.

It reads its task from standard input, which stays open as long as the first process lives.
"""

from __future__ import annotations

import base64
import importlib
import os
import pickle
import signal
import sys
import threading
import traceback
from pathlib import Path

from koa_lightning.config import folders, signals
from koa_lightning.config.allocator import tune_allocator
from koa_lightning.config.outcome import BAD_INPUT, DONE, PARTLY, one_line, say_error


def main() -> int:
    """Train together with the first process; return the exit code."""
    for number in (*signals.ENDING, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a cluster sends them to all; the first process decides
    tune_allocator()
    packed = sys.stdin.buffer.readline()
    if not packed:
        return PARTLY
    threading.Thread(target=_end_with_first, daemon=True).start()
    task = pickle.loads(base64.b64decode(packed))
    sys.path[:] = task["path"]
    folders.use([Path(each) for each in task["folders"]])
    try:
        importlib.import_module("koa_lightning.training.run").train_along(task)
    except Exception as error:
        line = one_line(error)
        if line is None:
            traceback.print_exc()
            return PARTLY
        say_error(line)
        return BAD_INPUT
    return DONE


def _end_with_first() -> None:
    """End this process when the first one is gone."""
    sys.stdin.buffer.read()
    os._exit(PARTLY)


if __name__ == "__main__":
    sys.exit(main())
