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
        (["predict", "CKPT=x"], "error: INPUT is missing; type make predict INPUT=FILE"),
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


@pytest.fixture
def make(tmp_path):
    """Run `make` in a checkout without .venv, whose PYTHON would fail; returns what came of it."""
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()

    def run(*typed, **environment):
        ended = ("MAKE", "MFLAGS", "VIRTUAL_ENV", "CONDA_PREFIX", "PORT")
        alone = {name: value for name, value in os.environ.items() if not name.startswith(ended)}
        command = ["make", *typed, "PYTHON=false"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=alone | environment)

    return run


def an_environment(folder, has_package):
    """An environment whose Python knows the package or not, and repeats what it is asked."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin/python"
    python.write_text(f'#!/bin/sh\ntest "$1" = -I && exit {0 if has_package else 1}\necho "ran: $@"\n')
    python.chmod(0o755)
    return folder


@pytest.mark.parametrize("variable", ["VIRTUAL_ENV", "CONDA_PREFIX"])
def test_an_active_environment_that_has_the_package_is_used(make, tmp_path, variable):
    done = make("eval", "CKPT=a b", **{variable: str(an_environment(tmp_path / "my own", True))})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "ran: -m koa_lightning.eval ckpt=a b")
    assert not (tmp_path / ".venv").exists()


def test_an_active_environment_without_the_package_is_left_alone(make, tmp_path):
    done = make("eval", "CKPT=x", VIRTUAL_ENV=str(an_environment(tmp_path / "other", False)))
    assert done.returncode == 2 and "ran: " not in done.stdout
    assert "false -m venv .venv" in done.stdout  # the checkout's own would be made


def test_the_checkouts_own_environment_may_be_active(make, tmp_path):
    own = an_environment(tmp_path / ".venv", True)
    (own / ".installed").touch()
    done = make("eval", "CKPT=x", VIRTUAL_ENV=str(own))
    assert done.stdout.splitlines()[-1] == "ran: -m koa_lightning.eval ckpt=x"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["ui"], "ran: -m koa_lightning.tracking.ui"),
        (["ui", "PORT=7"], "ran: -m koa_lightning.tracking.ui port=7"),
        (
            ["serve-mlflow", "MODEL=knees/2", "PORT=7"],
            "ran: -m koa_lightning.serving.mlflow_server model=knees/2 port=7",
        ),
        (["serve", "CKPT=x", "PORT=7", "ARGS=workers=2"], "ran: -m koa_lightning.serve ckpt=x port=7 workers=2"),
        (["server", "PORT=7", "ARGS=folder=here"], "ran: -m koa_lightning.server port=7 folder=here"),
    ],
)
def test_ports(make, tmp_path, typed, line):
    done = make(*typed, VIRTUAL_ENV=str(an_environment(tmp_path / "env", True)))
    assert done.stdout.splitlines()[-1] == line
