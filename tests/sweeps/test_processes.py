import os
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from koa_lightning.sweeps import processes
from koa_lightning.sweeps.processes import Piece, run_all

SECONDS = 60  # what takes longer hangs

HELPER = """
import os
import time
from pathlib import Path
from filelock import FileLock

def wait(file):
    with FileLock(file + ".lock"):
        Path(file).touch()
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            Path(file).write_text("asked to end")
            raise

def meet(files):
    mine, others = files
    Path(mine).touch()
    while not Path(others).exists():
        time.sleep(0.01)
    return 0

def threads(file):
    Path(file).write_text(os.environ.get("OMP_NUM_THREADS", "all"))
    return 0

def huge(file):
    flags = [part.split("\\n")[0].split() for part in Path("/proc/self/smaps").read_text().split("VmFlags:")[1:]]
    Path(file).write_text(str(any("hg" in part for part in flags)))
    return 0

def stubborn(file):
    Path(file).touch()
    while True:
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            Path(file).write_text("no")
"""


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A module that a process of its own can import."""
    (tmp_path / "helper_of_processes.py").write_text(HELPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "helper_of_processes"


def press_ctrl_c(when):
    """Send this process SIGINT once a condition holds."""

    def press():
        while not when():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()


@pytest.mark.parametrize(("parallel", "each"), [(1, "all"), (2, "3")])
def test_processes_side_by_side_share_the_cores(parallel, each, helper, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    files = [tmp_path / name for name in "ab"]
    run_all(f"{helper}:threads", {n: Piece(str(file)) for n, file in enumerate(files)}, parallel, lambda *_: True)
    assert [file.read_text() for file in files] == [each, each]
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is tuned")
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="a kernel without huge pages")
def test_the_allocator_of_each_is_tuned(helper, tmp_path):
    run_all(f"{helper}:huge", {0: Piece(str(tmp_path / "huge"))}, 1, lambda *_: True)
    assert (tmp_path / "huge").read_text() == "True"


def test_exit_codes_are_told_and_a_fault_ends_one_alone(capfd):
    ended = []
    codes = run_all("os:_exit", {5: Piece(0), 3: Piece(7)}, 1, lambda *end: ended.append(end) or True)
    assert codes == {5: 0, 3: 7}
    assert ended == [(5, 0), (3, 7)]
    assert run_all("signal:raise_signal", {0: Piece(9)}, 1, lambda *_: True) == {0: -9}
    assert run_all("builtins:int", {0: Piece("no number")}, 1, lambda *_: True) == {0: 1}
    assert "ValueError" in capfd.readouterr().err


def test_no_further_one_begins_when_told_so():
    assert run_all("os:_exit", {0: Piece(2), 1: Piece(0)}, 1, lambda *_: False) == {0: 2}


def test_several_at_a_time(helper, tmp_path):
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert run_all(f"{helper}:meet", {0: Piece((a, b)), 1: Piece((b, a))}, 2, lambda *_: True) == {0: 0, 1: 0}


def test_what_it_prints_goes_to_its_log(tmp_path, capfd):
    log = tmp_path / "new" / "log.txt"
    log.parent.mkdir()
    log.write_text("before\n")
    assert run_all("builtins:print", {0: Piece("words", log)}, 1, lambda *_: True) == {0: 0}
    assert log.read_text() == "before\nwords\n"
    assert "words" not in capfd.readouterr().out


def test_ctrl_c_asks_each_to_end(helper, tmp_path, capfd):
    files = [tmp_path / "a", tmp_path / "b"]
    press_ctrl_c(lambda: all(file.exists() for file in files))
    with pytest.raises(KeyboardInterrupt):
        run_all(f"{helper}:wait", {n: Piece(str(file)) for n, file in enumerate(files)}, 2, lambda *_: True)
    assert [file.read_text() for file in files] == ["asked to end"] * 2
    assert "Traceback" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_a_process_starts_ends_it(monkeypatch, helper, tmp_path):
    start = processes._start

    def interrupted(*arguments):
        start(*arguments)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(processes, "_start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(f"{helper}:stubborn", {0: Piece(str(tmp_path / "a"))}, 1, lambda *_: True)


def test_a_second_ctrl_c_kills(helper, tmp_path):
    file = tmp_path / "a"
    press_ctrl_c(file.exists)
    press_ctrl_c(lambda: file.exists() and file.read_text() == "no")
    with pytest.raises(KeyboardInterrupt):
        run_all(f"{helper}:stubborn", {0: Piece(str(file))}, 1, lambda *_: True)


def test_it_ends_with_the_process_that_began_it(helper, tmp_path, with_package):
    file = tmp_path / "a"
    code = (
        f"from koa_lightning.sweeps.processes import *; run_all('{helper}:wait', {{0: Piece({str(file)!r})}}, 1, print)"
    )
    path = os.pathsep.join([str(tmp_path), with_package["PYTHONPATH"]])
    victim = subprocess.Popen([sys.executable, "-c", code], env=with_package | {"PYTHONPATH": path})
    end = time.monotonic() + SECONDS
    while not file.exists():
        assert victim.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    victim.kill()
    victim.wait()
    with FileLock(f"{file}.lock", timeout=SECONDS):  # the system lets go of it when its holder is dead
        assert file.read_text() == ""
