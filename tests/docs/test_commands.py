"""Every command of README.md and docs/ is one that there is, with keys that there are; the slow tests run them.

A block or line that no test can run has `<!-- not run: REASON -->` before it, or at its end; one whose keys are checked
but that takes too long to be run has `<!-- only checked: REASON -->`.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from koa_lightning.config import keys, overrides
from koa_lightning.config import launch as cli
from koa_lightning.config.commands import COMMANDS
from koa_lightning.config.compose import compose, config_dir, validate
from koa_lightning.errors import InputError
from koa_lightning.tracking import postgres, resend
from tests.fixtures import documented
from tests.fixtures.pages import ROOT, Found, commands, pages

FOUND = [found for page in pages() for found in commands(page)]
RUN = [found for found in FOUND if not found.reason]
# Commands of others: of them only the name is checked, and of pip what it installs.
OTHERS = {
    "source",
    "ssh",
    "curl",
    "export",
    "mlflow",
    "pip",
    "apt-get",
    "pg_dump",
    "base64",
    "sbatch",
    "scontrol",
    "git",
}
OTHERS |= {"cd", "docker", "podman", "exec", "scancel", "nohup", "printf"}


def name(found):
    return f"{found.page}:{found.line}"


def words_of(text):
    """Return the words of a command; of what may be omitted and of alternatives the first."""
    text = re.sub(r"\s\[([^]\s]+?)(\|[^]]*)?\](?=\s|$)", r" \1", text)
    text = re.sub(r"\$\w+", "0", text)  # a variable of the shell
    return [word for word in shlex.split(text) if word not in ("...", "srun")]


def settings_of(command, words):
    """Return the settings and flags of a command; what stands beside them in the page is no part of it."""
    named = command in ("compare", "compare_predictions")
    before = [None, *words]
    return [
        word
        for word, last in zip(words, before, strict=False)
        if "=" in word or word.startswith(("-", "+", "~")) or named or last in ("--cfg", "--config-dir")
    ]


def check(text, make):
    """Stop where a command is none, or has a key or choice that is none."""
    words = words_of(text)
    program, rest = words[0].lstrip("("), words[1:]
    if program == "make":
        for line in make(*rest):
            check(line, make)
    elif program == "python" and rest[:1] == ["-m"]:
        check_module(rest[1], rest[2:])
    elif program in ("koa", "koa-lightning"):
        check_module(f"koa_lightning.{rest[0]}", rest[1:]) if rest else None
    elif program.startswith("koa-"):
        assert program in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
        check_module(f"koa_lightning.{program[4:].replace('-', '_')}", rest)
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {extra for word in rest for extra in re.findall(r"\[(.+)\]", word)} <= set(extras)
    else:
        assert program in OTHERS, f"{program}: no command that this test knows; is it typed right?"


def check_module(module, words):
    if module.rpartition(".")[2].isupper():  # a placeholder
        return
    command = module.removeprefix("koa_lightning.")
    if command not in COMMANDS or module == "koa_lightning.demo":
        found = importlib.util.find_spec(module)
        assert found is not None, f"there is no module {module}"
        if command == "tracking.resend":
            assert resend._address(words[1] if words[1:] else None) is None or words[1].startswith("uri=")
        return
    flags, typed = overrides.sort_out(settings_of(command, words))
    overrides.check_places(typed)
    if before := COMMANDS[command].before.removeprefix("config.run_folder:with_old_overrides"):
        typed = cli._function(f"koa_lightning.{before}")(typed)
    keys.check_choices(typed)
    if "--config-dir" in flags:  # a file of the user's own
        typed = [item for item in typed if not item.startswith("+")]
    check_config(command, typed)


def check_config(command, typed):
    many = [item for item in typed if re.match(r"(interval|range|choice|tag)\(", overrides.value(item))]
    conditions = re.findall(r"tag\('([^'|\\]+)", " ".join(many))
    single = [_first(item) for item in typed if item not in many]
    cfg = compose(command, [*overrides.quote_paths(single), *conditions])
    keys.check(cfg, command, single, [])
    missing = [overrides.key(item) for item in many if OmegaConf.select(cfg, overrides.key(item)) is None]
    assert set(missing) <= {"loss", "model"}, missing
    validate(cfg, command)


def _first(item):
    """Return an override with the first of several values."""
    outside = not re.search(r"[\[({\"']", item)
    return item.split(",")[0] if outside and overrides.key(item) not in ("data.root", "out") else item


@pytest.fixture
def make(tmp_path):
    """What `make` would run for these words."""
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)

    def would(*words):
        environment = {"PATH": "/usr/bin:/bin", "VIRTUAL_ENV": str(tmp_path / "env")}
        command = ["make", "-n", "-f", str(ROOT / "Makefile"), *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
        needs = re.search(r"(\w+) is missing", done.stdout + done.stderr) if done.returncode else None
        assert done.returncode == 0 or "No rule to make target 'pyproject.toml'" in done.stderr or needs, done.stderr
        lines = [line.replace(f'"{python}"', "python") for line in done.stdout.splitlines()]
        alone = needs or re.search(r'=""', "\n".join(lines))  # `make eval` in a sentence names a target
        return [] if alone else [line for line in lines if line.startswith("python -m koa_lightning")]

    return would


@pytest.mark.sample(60)
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("found", RUN, ids=name)
def test_a_command_is_one_that_there_is(found, make, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    check(found.text, make)


def test_all_pages_are_read():
    read = {found.page for found in FOUND}
    assert {"README.md", "sweeps.md", "server.md", "clusters.md", "evaluation.md"} <= read
    assert len(FOUND) > 80
    assert all(found.reason.strip() for found in FOUND if found not in RUN)


@pytest.mark.parametrize(
    "text",
    [
        "python -m koa_lightning.trian",
        "python -m koa_lightning.train optimzer.lr=3",
        "python -m koa_lightning.train loss=focl",
        "python -m koa_lightning.train data.batch_size=0",
        "python -m koa_lightning.train -m sweep=tpe 'optimizer.rl=interval(1,2)'",
        "python -m koa_lightning.eval loss=ce",
        "make evaluate",
        'make server ARGS="fodler=x"',
        "koa-trian",
        "pip install 'koa-lightning[dicm]'",
        "pyhton x",
    ],
)
def test_a_command_that_has_gone_stale_is_found(text, make, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((InputError, AssertionError, HydraException)):
        check(text, make)


def test_blocks_that_are_not_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a network -->\n```sh\nmake ui\n```\n\n```sh\nmake demo  # quick\nmake \\\n  test\n```\n"
        "Type `make lint`.\n\n    python -m x a=1     what it does\n\n```python\nmake = 1\n```\n"
        "| long | `make bench` | <!-- only checked: takes an hour -->\n| short | `make help` |\n"
    )
    assert commands(page) == [
        Found("page.md", 3, "make ui", "needs a network"),
        Found("page.md", 7, "make demo"),
        Found("page.md", 8, "make test"),
        Found("page.md", 11, "make lint"),
        Found("page.md", 13, "python -m x a=1"),
        Found("page.md", 18, "make bench", only="takes an hour"),
        Found("page.md", 19, "make help"),
    ]


# --- and run


@pytest.fixture(scope="module")
def own_environment(tmp_path_factory):
    """Of processes that neither read nor write anything of the user's."""
    base = tmp_path_factory.mktemp("user")
    own = {"KOA_CACHE": str(base / "cache"), "XDG_CONFIG_HOME": str(base / "config"), "HF_HUB_OFFLINE": "1"}
    rest = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "KOA_KEY")}
    return rest | own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}


@pytest.fixture(scope="module")
def desk(own_environment, write_dicom, made_study):
    # Not in pytest's folder: root's is closed to the user that PostgreSQL then runs as.
    with tempfile.TemporaryDirectory(prefix="koa-desk-") as folder:
        Path(folder).chmod(0o711)
        place = Path(folder) / "place"
        place.mkdir()
        documented.make_desk(place, own_environment, write_dicom, made_study)
        yield place


def lines_of(found, make):
    """Return the commands of the package that a documented one amounts to, as words; none where it is another's."""
    words = words_of(found.text)
    program = words[0].lstrip("(")
    if program == "make":
        return [line for made in make(*words[1:]) for line in lines_of(found._replace(text=made), make)]
    if program.startswith("koa-"):
        words = ["python", "-m", f"koa_lightning.{program[4:].replace('-', '_')}", *words[1:]]
    elif program in ("koa", "koa-lightning"):
        words = ["python", "-m", ".".join(["koa_lightning", *words[1:2]]), *words[2:]]
    is_ours = words[:2] == ["python", "-m"] and words[2].startswith("koa_lightning")
    return [words[2:]] if is_ours and not words[2].rpartition(".")[2].isupper() else []


# Each once; one that is marked anywhere is marked everywhere.
MARKED = {found.text for found in FOUND if found.only}
TO_RUN = list({found.text: found for found in RUN if found.text not in MARKED}.values())
# Repeats a run bit for bit, which needs the threads of a new process, not those that earlier commands left in this one.
OWN_PROCESS = {"reproduce"}
# Exit codes that are no fault: an audit says by them what it found.
RIGHT = {"audit": {0, 1, 3}}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("found", TO_RUN, ids=name)
def test_a_command_does_what_it_says(found, make, desk, own_environment, tmp_path, launch, monkeypatch):
    lines = lines_of(found, make)
    if not lines:
        pytest.skip(f"{found.text}: of another program, a benchmark of minutes, or a name without arguments")
    monkeypatch.chdir(tmp_path)
    place = documented.restored(desk)
    monkeypatch.chdir(place)
    for variable in ("KOA_CACHE", "XDG_CONFIG_HOME", "HF_HUB_OFFLINE", "PYTHONPATH"):
        monkeypatch.setenv(variable, own_environment[variable])
    for module, *typed in lines:
        command = module.removeprefix("koa_lightning.") if module != "koa_lightning" else ""
        if is_server(module, command):
            serves(module, documented.fill(command, typed, place), place, own_environment)
            continue
        needs = not typed and command in COMMANDS and "???" in (config_dir() / f"{command}.yaml").read_text()
        words = ["--help"] if needs else documented.fill(command, typed, place)
        words += [] if {"--help", "--cfg"} & set(words) else documented.small(command, typed)
        if command in COMMANDS and command not in OWN_PROCESS:  # in this process, which has imported the package once
            ended = launch(command, *words)
            code, said = ended.code, [*ended.out, *ended.err]
        else:
            ended = subprocess.run(
                [sys.executable, "-m", module, *words],
                cwd=place, env=own_environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            code, said = ended.returncode, (ended.stdout + ended.stderr).splitlines()
        assert code in RIGHT.get(command, {0}), (words, said[-60:])
        assert not any("Traceback" in line for line in said), said[-60:]
        assert said


def is_server(module, command):
    """Tell whether a command answers on a port until it is ended: it has a setting for that."""
    if command in COMMANDS:
        config = config_dir() / f"{command}.yaml"
        return config.is_file() and re.search(r"^port:", config.read_text(), re.MULTILINE) is not None
    spec = importlib.util.find_spec(module)
    return spec is not None and '"port":' in Path(spec.origin).read_text()


def serves(module, words, place, environment):
    """Start a server, wait until it answers, and end it."""
    if module == "koa_lightning.server" and (why := postgres_is_missing()):
        pytest.skip(why)
    port = free_port()
    log = (place / "log").open("w+")
    words = [word for word in words if not word.startswith("port=")]
    server = subprocess.Popen(
        [sys.executable, "-m", module, *words, f"port={port}"],
        cwd=place, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        end = time.monotonic() + 600
        while not answers(port):
            assert server.poll() is None and time.monotonic() < end, (place / "log").read_text()
            time.sleep(0.2)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) in (0, 143, -signal.SIGTERM)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, number)
        server.wait()
        log.close()
    assert "Traceback" not in (place / "log").read_text()


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def postgres_is_missing():
    try:
        postgres.find_programs()
    except InputError as error:
        return str(error)
    return ""


def test_what_is_not_run_says_why_and_is_little():
    only_read = [found for found in FOUND if found.reason or found.only]
    assert all(len(found.reason + found.only) > 10 for found in only_read)
    assert len(only_read) <= len(FOUND) / 4, "too many commands of the pages are only read"
    assert len(TO_RUN) > 80
