"""The thread between the training and the store."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from koa_lightning.tracking.deliver import Delivery
from koa_lightning.tracking.spool import Entry, Spool
from koa_lightning.tracking.store import public

INTERVAL_SECONDS = 1.0
"""At most one delivery in this time: a batch costs about 17 ms of one core, so under 2 % of it."""
RETRY_SECONDS = 30.0
_log = logging.getLogger(__name__)


class Sender:
    """Takes entries at once and delivers them, in their order, from a thread of its own.

    When the store fails, entries go to the spool and the thread tries the store again every half minute. Entries that
    the store refuses go to the spool too and are retried with each attempt to empty it. Entries that an earlier process
    of the same run left in the spool are delivered first.

    Args:
        deliver: Writes entries and returns those that are left.
        spool: Where undelivered entries wait.
        why_unreachable: Checks quickly whether the store answers; returns an empty string if it does.
        interval: Least seconds between two deliveries.
        retry: Seconds from one outage to the next try.
    """

    def __init__(
        self,
        deliver: Callable[[Sequence[Entry]], Delivery],
        spool: Spool,
        why_unreachable: Callable[[], str],
        interval: float = INTERVAL_SECONDS,
        retry: float = RETRY_SECONDS,
    ) -> None:
        self._deliver = deliver
        self._spool = spool
        self._why_unreachable = why_unreachable
        self._interval = interval
        self._retry = retry
        self._retry_at: float | None = None  # set while the store is failing
        self._said: set[str] = set()
        self._unwritten: list[Entry] = []  # held in memory while the disk fails too
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._on_its_way: list[Entry] = []
        self._closing = threading.Event()
        if spool:
            self._catch_up()
        self._thread = threading.Thread(target=self._run, daemon=True, name="tracking")
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Take an entry; returns at once.

        Raises:
            RuntimeError: After `close`.
        """
        if self._closing.is_set():
            raise RuntimeError("the run is closed; nothing more can be logged")
        self._queue.put(entry)

    def close(self, seconds: float | None = None) -> list[Entry]:
        """Deliver all queued entries, try the spool a last time, and return those still not delivered.

        Args:
            seconds: The longest to wait; entries still being sent then go to the spool too.
        """
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        try:
            self._thread.join(seconds)
        except KeyboardInterrupt:  # the thread ends with the process
            self._keep([*self._on_its_way, *self._drain()])  # sending twice does no harm
            raise
        self._keep([*(self._on_its_way if self._thread.is_alive() else []), *self._drain()])
        return self.waiting()

    def waiting(self) -> list[Entry]:
        """Return the entries in the spool, and those that the disk did not accept."""
        return self._spool.read() + self._unwritten

    @property
    def unwritten(self) -> list[Entry]:
        """Entries that neither the store nor the disk accepted; they end with the process."""
        return self._unwritten

    def _run(self) -> None:
        while not self._closing.is_set():
            self._send(self._take())
            self._closing.wait(self._interval)
        self._send(self._drain())
        if self._spool or self._unwritten:
            self._catch_up()

    def _take(self) -> list[Entry]:
        """Wait for an entry, or until it is time to retry a failing store; return all queued entries."""
        timeout = None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())
        try:
            first = self._queue.get(timeout=timeout)
        except queue.Empty:
            return []
        return ([first] if first else []) + self._drain()

    def _drain(self) -> list[Entry]:
        entries = []
        with contextlib.suppress(queue.Empty):
            while True:
                entry = self._queue.get_nowait()
                if entry:
                    entries.append(entry)
        return entries

    def _send(self, entries: list[Entry]) -> None:
        if self._retry_at is None:
            self._on_its_way = entries
            delivery = self._deliver(entries)
            self._keep(delivery.left)
            self._on_its_way = []
            self._note(delivery)
            return
        self._keep(entries)
        if time.monotonic() >= self._retry_at:
            self._catch_up()

    def _catch_up(self) -> None:
        reason = self._why_unreachable()
        if reason:
            self._note(Delivery(outage=reason))
            return
        try:
            with self._spool.lock:
                delivery = self._deliver(self._spool.read() + self._unwritten)
                self._unwritten = delivery.left  # until the disk has them; sending twice does no harm
                self._spool.replace(delivery.left)
                self._unwritten = []
        except OSError as error:
            delivery = Delivery(outage=f"{self._spool.path}: {error}")
        self._note(delivery)

    def _keep(self, entries: list[Entry]) -> None:
        waiting = self._unwritten + entries
        if not waiting:
            return
        try:
            self._spool.append(waiting)
            self._unwritten = []
        except OSError as error:
            if not self._unwritten:
                _log.warning("%s cannot be written (%s); its entries are kept in memory", self._spool.path, error)
            self._unwritten = waiting

    def _note(self, delivery: Delivery) -> None:
        """Log once when an outage begins and once when it ends, and set the time of the next try."""
        for reason in dict.fromkeys(delivery.refused):
            if reason not in self._said:
                _log.warning("tracking: not accepted, %s", reason)
            self._said.add(reason)
        if delivery.outage:
            if self._retry_at is None:
                _log.warning(
                    "tracking: %s fails (%s); the training continues, what it logs is kept in %s",
                    *(public(self._spool.uri), delivery.outage, self._spool.path),
                )
            self._retry_at = time.monotonic() + self._retry
            return
        if self._retry_at is not None:
            _log.info("tracking: %s is back, all waiting entries were sent", public(self._spool.uri))
        self._retry_at = None
