"""A program so small that a test can sweep over it: a function of a config, under Hydra as any other program's."""

import re
import subprocess
import sys
import time
from types import SimpleNamespace

import hydra
import optuna
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

from koa_lightning.sweeps import space, study
from koa_lightning.sweeps import trial as sweeps_trial

CONFIG = """
x: 0.0
y: 3
kind: a
part: {size: 1}
seed: 0
out: nowhere
"""
QUIET = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra/sweeper=koa_optuna"]
PROGRAM = """
import os, signal, sys, time
import hydra
from koa_lightning.sweeps import trial

@hydra.main(config_path="conf", config_name="config", version_base="1.3")
def main(cfg):
    value = -(cfg.x - 1) ** 2 - (cfg.y - 3) ** 2 + 0.01 * cfg.seed
    with open("began.txt", "a") as file:
        file.write(f"{cfg.x!r} {cfg.y} {cfg.seed}\\n")
    for step in range(4):
        if trial.report(value - 1 / (1 + step), step):
            raise trial.Pruned
        time.sleep(float(os.environ.get("NAP", 0)))
    if cfg.kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return value

if __name__ == "__main__":
    main()
"""


@pytest.fixture
def read():
    """Read a space: configured keys, then what is typed."""

    def make(*typed, **configured):
        return space.read({key.replace("__", "."): v for key, v in configured.items()}, typed, OverridesParser.create())

    return make


@pytest.fixture
def program(tmp_path, monkeypatch, capsys):
    """Sweep over a function of a config in this process; returns exit code, lines, and the study."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(study.STORAGE_VARIABLE, raising=False)
    monkeypatch.setenv(study.STORAGE_VARIABLE, "")

    def run(function, *arguments):
        arguments = [*QUIET, *[re.sub(r"^sweep\.", "hydra.sweeper.", item) for item in arguments]]
        monkeypatch.setattr(sys, "argv", ["program.py", "-m", *arguments])
        monkeypatch.setenv(study.STORAGE_VARIABLE, "")
        capsys.readouterr()
        code = 0
        try:
            hydra.main(config_path=str(tmp_path / "conf"), config_name="config", version_base="1.3")(function)()
        except SystemExit as end:
            code = end.code
        finally:
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None
            sweeps_trial._study.cache_clear()
        out, err = capsys.readouterr()
        found = re.match(r"sweep (\S+):", out)
        name = found.group(1) if found else None
        loaded = optuna.load_study(study_name=name, storage=study.open_storage(study.url(None))) if name else None
        return SimpleNamespace(code=code, out=out.splitlines(), err=err.splitlines(), study=loaded, name=name)

    return run


@pytest.fixture
def process(tmp_path, with_package):
    """Start the same program as a process of its own."""
    (tmp_path / "conf").mkdir(exist_ok=True)
    (tmp_path / "conf" / "config.yaml").write_text(CONFIG)
    (tmp_path / "program.py").write_text(PROGRAM)
    begun = []

    def start(*arguments, **environment):
        arguments = [re.sub(r"^sweep\.", "hydra.sweeper.", item) for item in arguments]
        log = (tmp_path / f"log-{time.monotonic_ns()}").open("w+")
        one = subprocess.Popen(
            [sys.executable, "program.py", "-m", *QUIET, *arguments], cwd=tmp_path, text=True, stdout=log,
            stderr=subprocess.STDOUT, env={**with_package, study.STORAGE_VARIABLE: "", **environment},
        )  # fmt: skip
        one.lines = lambda: (tmp_path / log.name).read_text().splitlines()
        begun.append(one)
        return one

    yield start
    for one in begun:
        one.kill()
        one.wait()
