import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["eval"], "error: CKPT is missing; type make eval CKPT=FILE"),
        (["predict", "CKPT=x"], "error: INPUT is missing; type make predict CKPT=FILE INPUT=FILE"),
        (["register", "RUN="], "error: RUN is missing; type make register RUN=ID"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_installed(typed, line, tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *typed, "PYTHON=false"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=alone)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == line
