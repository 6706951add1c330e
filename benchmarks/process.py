"""Functions in Python processes of their own: the allocator, the threads and the memory belong to the process.

Two of them can take turns, so that both sides of a ratio run under the same load: while one works, all threads of the
other are stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def in_own_process(function: str, *arguments: Any) -> Any:
    """Call a function in a new Python process.

    Args:
        function: `module:name`.
        arguments: Any values that JSON can hold.

    Returns:
        Its return value, passed as JSON.

    Raises:
        subprocess.CalledProcessError: The process failed; its messages went to the error stream.
    """
    return in_turns((function, *arguments))[0]


def in_turns(*calls: tuple[Any, ...]) -> list[Any]:
    """Call functions in new Python processes of which only one works at a time.

    A process works until its `Stopwatch` stops it, or until it ends; then the next one works.

    Args:
        calls: Function and arguments of each, as in `in_own_process`.

    Returns:
        The return value of each.

    Raises:
        subprocess.CalledProcessError: As in `in_own_process`.
    """
    with tempfile.TemporaryDirectory() as folder:
        answers = [Path(folder) / f"{i}.json" for i in range(len(calls))]
        waiting = list(zip(calls, answers, strict=True))
        working: list[subprocess.Popen[bytes]] = []
        try:
            while waiting or working:
                process = _start(*waiting.pop(0)) if waiting else working.pop(0)
                if _has_stopped(process):
                    working.append(process)
        finally:
            for process in working:
                process.kill()
        return [json.loads(answer.read_text()) for answer in answers]


class Stopwatch:
    """Counts the steps of a loop and takes the time of each turn, after which this process stops itself.

    Attributes:
        turns: Seconds of each turn but the first, which holds the start.

    Args:
        steps: In a turn.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.turns = steps, list[float]()
        self._done, self._start = 0, float("nan")

    def step_done(self) -> None:
        """Count a step; at the end of a turn, wait until the parent process gives the next."""
        self._done += 1
        if self._done % self.steps:
            return
        if self._done > self.steps:
            self.turns.append(time.perf_counter() - self._start)
        os.kill(os.getpid(), signal.SIGSTOP)
        self._start = time.perf_counter()


def _start(call: tuple[Any, ...], answer_file: Path) -> subprocess.Popen[bytes]:
    function, *arguments = call
    code = "from benchmarks.process import answer; answer()"
    return subprocess.Popen(
        [sys.executable, "-c", code, function, json.dumps(arguments), str(answer_file)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )


def _has_stopped(process: subprocess.Popen[bytes]) -> bool:
    """Resume a process; tell whether it stopped itself (True) or ended with success (False)."""
    os.kill(process.pid, signal.SIGCONT)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return True
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return False


def answer() -> None:
    """Run as such a process: `function`, `arguments` and the file for the result are on the command line."""
    function, arguments, file = sys.argv[1:]
    module, name = function.split(":")
    result = getattr(import_module(module), name)(*json.loads(arguments))
    Path(file).write_text(json.dumps(result))
