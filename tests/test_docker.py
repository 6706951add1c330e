"""Dockerfile and compose.yaml: no image is built, but their commands run here, as far as they can without one."""

import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from koa_lightning.config.commands import COMMANDS
from koa_lightning.config.compose import compose, validate
from koa_lightning.serving.service import settings

ROOT = Path(__file__).parents[1]


def instructions():
    """Return (stage, word, rest) of each line of the Dockerfile."""
    found, stage = [], ""
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stage = rest.rsplit(" AS ", 1)[1]
        found.append((stage, word, rest))
    return found


def of(stage, word):
    return [rest for at, name, rest in instructions() if (at, name) == (stage, word)]


def test_the_cpu_is_the_default_and_both_stages_end_alike():
    assert instructions()[-1][0] == "cpu"
    for word in ("USER", "ENTRYPOINT", "CMD", "WORKDIR"):
        assert of("cpu", word) == of("gpu", word) and len(of("cpu", word)) == 1
    assert of("cpu", "USER") == ["koa"]


def test_versions_are_those_of_the_package():
    text = (ROOT / "pyproject.toml").read_text()
    for stage in ("cpu", "gpu"):
        for wanted in re.findall(r'"(torch\w*>=[^"]+)"', " ".join(of(stage, "RUN"))):
            assert f'"{wanted}"' in text
    extras = re.search(r"\[([\w,]+)\]", of("cpu", "RUN")[-1])[1].split(",")
    assert {"serve", "server"} <= set(extras) and all(re.search(rf"^{name} = \[", text, re.M) for name in extras)


def test_what_is_copied_is_there_and_is_not_ignored():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [name for rest in of("build", "COPY") for name in shlex.split(rest)[:-1]]
    assert set(copied) == kept and all((ROOT / name).exists() for name in copied)


def started(words):
    """Return the config of a command as a container starts it."""
    name, *typed = words
    assert name in COMMANDS
    cfg = compose(name, typed)
    validate(cfg, name)
    return cfg


def test_the_container_starts_the_service_and_asks_for_a_token(monkeypatch):
    cfg = started(json.loads(of("cpu", "CMD")[0]))
    monkeypatch.setenv(settings.TOKEN_VARIABLE, "0123456789abcdef")
    assert settings.access(cfg).host == "0.0.0.0"
    assert str(cfg.port) in of("base", "EXPOSE") and f":{cfg.port}/ready" in of("base", "HEALTHCHECK")[0]


def test_the_health_check_knows_a_service_from_none(live):
    words = json.loads(of("base", "HEALTHCHECK")[0].split(" CMD ")[1])
    for address, code in ((live, 0), ("http://127.0.0.1:9", 1)):
        code_of = words[-1].replace("http://127.0.0.1:8000", address)
        done = subprocess.run([sys.executable, *words[1:-1], code_of], capture_output=True)
        assert (done.returncode != 0) == code


def test_compose_starts_commands_that_there_are_for_this_machine_alone(monkeypatch):
    text = (ROOT / "compose.yaml").read_text()
    said = yaml.safe_load(text.replace("${KOA_MODEL:-koa-grader@champion}", "koa-grader@champion"))
    services = said["services"]
    assert set(services) == {"postgres", "mlflow", "serve"}
    for name in ("mlflow", "serve"):
        cfg = started([re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", "secret", word) for word in services[name]["command"]])
        assert services[name]["ports"] == [f"127.0.0.1:{cfg.port}:{cfg.port}"]
        assert services[name]["build"]["target"] == "cpu"
    assert (
        f"{services['serve']['command'][2].removeprefix('tracking.uri=http://')}" in services["mlflow"]["command"][-1]
    )
    secrets = [services["postgres"]["environment"]["POSTGRES_PASSWORD"], services["serve"]["environment"]["KOA_TOKEN"]]
    assert all(re.match(r"\$\{\w+:\?", secret) for secret in secrets)


@pytest.mark.slow
def test_every_command_of_the_dockerfile_runs_in_a_fresh_environment(tmp_path):
    """The wheel is built and installed for real; packages come from this environment, system commands are omitted."""
    environment, source = tmp_path / "env", tmp_path / "src"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    [packages] = environment.glob("lib/python3*/site-packages")
    (packages / "theirs.pth").write_text("\n".join(site.getsitepackages()))
    for rest in of("build", "COPY"):
        *names, place = shlex.split(rest)
        for name in names:
            target = source / (name if place == "./" else place)
            target.parent.mkdir(parents=True, exist_ok=True)
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, target, ignore=skip) if (ROOT / name).is_dir() else shutil.copy(
                ROOT / name, target
            )
    path = f"{environment / 'bin'}:{os.environ['PATH']}"
    clean = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(environment)}
    clean.pop("PYTHONPATH", None)

    def run(command):
        # Without --no-deps pip would ask an index for what this environment lacks, e.g. torch of another build.
        command = command.replace("/wheels", str(tmp_path / "wheels")).replace("pip install", "pip install --no-deps")
        done = subprocess.run(["sh", "-ec", command], cwd=source, env=clean, capture_output=True, text=True)
        if "hatchling" in done.stderr + done.stdout and "No matching distribution" in done.stdout + done.stderr:
            pytest.skip("no package index here brings hatchling, which builds the wheel")
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    commands = [*of("build", "RUN"), *of("gpu", "RUN"), *of("cpu", "RUN")]
    for command in commands:
        run(command)
    assert "koa_lightning" not in {path.name for path in source.parent.iterdir()}
    shutil.rmtree(source)
    source.mkdir()
    assert run("python -c 'import koa_lightning; print(koa_lightning.__file__)'").startswith(str(environment))
    assert "page for readers" in run("koa serve --help")
    assert (packages / "koa_lightning/serving/service/page/main.js").is_file()
    [entry] = {json.loads(rest)[0] for rest in of("cpu", "ENTRYPOINT")}
    assert (environment / "bin" / entry).is_file()
