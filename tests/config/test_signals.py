import os
import signal
import time

import pytest

from koa_lightning.config import outcome, signals


@pytest.fixture
def not_ignored():
    """A process that may be hung up; under nohup the signal is ignored, and stays so."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def installed(not_ignored):
    with signals.installed():
        yield
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL and not signals.is_installed()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)])
def test_a_signal_is_as_ctrl_c_but_for_the_exit_code(installed, number, code):
    assert signals.exit_code() == outcome.INTERRUPTED and signals.seconds_left() is None
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert (signals.received(), signals.exit_code()) == (number, code)
    assert 0 < signals.seconds_left() <= signals.CLOSE_SECONDS
    assert signals.seconds_left(signals.CHILD_SECONDS) <= signals.CHILD_SECONDS < signals.CLOSE_SECONDS


def test_the_same_signal_once_more_does_not_disturb_the_end(installed, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGHUP)
    assert signals.received() == signal.SIGTERM
    monkeypatch.setattr(signals, "_SAME_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):  # somebody who loses patience
        signal.raise_signal(signal.SIGTERM)


def test_work_that_is_held_ends_first(installed):
    done = False
    with pytest.raises(KeyboardInterrupt), signals.held():
        signal.raise_signal(signal.SIGTERM)
        done = True
    assert done and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_work_that_takes_too_long_is_interrupted(installed, monkeypatch):
    monkeypatch.setattr(signals, "HELD_SECONDS", 0.05)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), signals.held():
        signal.raise_signal(signal.SIGTERM)
        time.sleep(20)
    assert time.monotonic() - start < 10


def test_work_inside_of_work(installed):
    with pytest.raises(KeyboardInterrupt), signals.held():
        with signals.held():
            signal.raise_signal(signal.SIGTERM)
        inner = True
    assert inner


def test_what_nohup_has_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.installed():
            signal.raise_signal(signal.SIGHUP)
            assert signals.received() is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_fork_just_ends(installed):
    child = os.fork()
    if child == 0:
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
