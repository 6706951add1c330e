import errno
import threading

import pytest

from koa_lightning.tracking.deliver import Delivery
from koa_lightning.tracking.sender import Sender
from koa_lightning.tracking.spool import Spool


class Shop:
    """A store in memory that can fail, refuse and wait."""

    def __init__(self):
        self.got = []
        self.down = False
        self.refuse = set()
        self.open = threading.Event()
        self.open.set()
        self.tried = threading.Semaphore(0)

    def deliver(self, entries):
        assert self.open.wait(20)
        self.tried.release()
        if self.down:
            return Delivery(list(entries), outage="down")
        left = [entry for entry in entries if entry["n"] in self.refuse]
        self.got += [entry["n"] for entry in entries if entry not in left]
        return Delivery(left, refused=[f"bad {entry['n']}" for entry in left])


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path, "id", "uri")


def start(shop, spool, retry=3600.0):
    return Sender(shop.deliver, spool, lambda: "down" if shop.down else "", interval=0, retry=retry)


def entry(n):
    return {"op": "metrics", "n": n}


def test_put_does_not_wait_for_the_store(shop, spool):
    shop.open.clear()
    sender = start(shop, spool)
    for n in range(100):
        sender.put(entry(n))
    assert shop.got == []
    shop.open.set()
    assert sender.close() == []
    assert shop.got == list(range(100))
    assert not spool


def test_outage_goes_to_the_spool_in_order_and_is_said_once(shop, spool, caplog):
    sender = start(shop, spool)
    shop.down = True
    for n in range(3):
        sender.put(entry(n))
    assert sender.close() == [entry(n) for n in range(3)]
    assert spool.read() == [entry(n) for n in range(3)]
    assert caplog.text.count("the training continues") == 1


def test_store_that_comes_back_gets_all_in_order(shop, spool):
    shop.down = True
    sender = start(shop, spool, retry=0.01)
    sender.put(entry(0))
    assert shop.tried.acquire(timeout=20)
    shop.down = False
    assert shop.tried.acquire(timeout=20)  # by itself, without a further entry
    sender.put(entry(1))
    assert sender.close() == []
    assert shop.got == [0, 1]


def test_close_tries_once_more(shop, spool):
    shop.down = True
    sender = start(shop, spool)
    sender.put(entry(0))
    assert shop.tried.acquire(timeout=20)
    shop.down = False
    assert sender.close() == []
    assert shop.got == [0]
    assert not spool


def test_refused_entry_keeps_nothing_else_out(shop, spool, caplog):
    shop.refuse = {1}
    sender = start(shop, spool)
    for n in range(4):
        sender.put(entry(n))
    assert sender.close() == [entry(1)]
    assert shop.got == [0, 2, 3]
    assert caplog.text.count("bad 1") == 1


def test_what_an_earlier_process_left_goes_first(shop, spool):
    spool.append([entry(0)])
    sender = start(shop, spool)
    assert shop.got == [0]
    sender.put(entry(1))
    sender.close()
    assert shop.got == [0, 1]


def test_full_disk_during_an_outage_keeps_entries_in_memory(shop, spool, monkeypatch, caplog):
    def full(entries):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "append", full)
    shop.down = True
    sender = start(shop, spool)
    sender.put(entry(0))
    assert shop.tried.acquire(timeout=20)
    sender.put(entry(1))
    assert sender.close() == sender.unwritten == [entry(0), entry(1)]
    assert caplog.text.count("kept in memory") == 1


def test_full_disk_then_a_living_store_loses_nothing(shop, spool, monkeypatch):
    def full(entries):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool, "append", full)
    shop.down = True
    sender = start(shop, spool)
    sender.put(entry(0))
    assert shop.tried.acquire(timeout=20)
    shop.down = False
    assert sender.close() == []
    assert shop.got == [0]


def test_nothing_is_taken_after_close(shop, spool):
    sender = start(shop, spool)
    sender.close()
    with pytest.raises(RuntimeError, match="closed"):
        sender.put(entry(0))


def test_an_interrupt_while_it_closes_keeps_what_was_not_sent(shop, spool, monkeypatch):
    sender = start(shop, spool)
    shop.open.clear()
    for n in range(3):
        sender.put(entry(n))
    monkeypatch.setattr(sender._thread, "join", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        sender.close()
    assert [each["n"] for each in spool.read()] == [0, 1, 2]
    assert sender.waiting() == spool.read()
    shop.open.set()


def press_ctrl_c(seconds=None):
    raise KeyboardInterrupt
