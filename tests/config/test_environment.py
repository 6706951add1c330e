import os

import pytest

from koa_lightning.config.environment import shared_cores, variables


def test_variables_are_as_before_in_the_end(monkeypatch):
    monkeypatch.setenv("KOA_A", "before")
    monkeypatch.delenv("KOA_B", raising=False)
    with pytest.raises(ZeroDivisionError), variables(KOA_A="1", KOA_B="2"):
        assert (os.environ["KOA_A"], os.environ["KOA_B"]) == ("1", "2")
        del os.environ["KOA_B"]
        raise ZeroDivisionError
    assert os.environ["KOA_A"] == "before" and "KOA_B" not in os.environ


@pytest.mark.parametrize(("n", "threads"), [(1, None), (2, "3"), (4, "1"), (99, "1")])
def test_processes_share_the_cores(n, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert shared_cores(n) == ({} if threads is None else {"OMP_NUM_THREADS": threads})
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert shared_cores(n) == {}  # the user's own
