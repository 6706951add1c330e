"""A function in a Python process of its own: the allocator, the threads and the memory belong to the process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def in_own_process(function: str, *arguments: Any) -> Any:
    """Call a function in a new Python process.

    Args:
        function: `module:name`.
        arguments: Whatever JSON holds.

    Returns:
        What it returned, by way of JSON.

    Raises:
        subprocess.CalledProcessError: The process failed; what it said went to the error stream.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        code = "from benchmarks.process import answer; answer()"
        command = [sys.executable, "-c", code, function, json.dumps(arguments), str(answer)]
        subprocess.run(command, cwd=ROOT, check=True)
        return json.loads(answer.read_text())


def answer() -> None:
    """Be that process: `function`, `arguments` and the file for the answer are on the command line."""
    function, arguments, file = sys.argv[1:]
    module, name = function.split(":")
    result = getattr(import_module(module), name)(*json.loads(arguments))
    Path(file).write_text(json.dumps(result))
