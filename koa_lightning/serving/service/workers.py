"""The worker processes as one grader: jobs wait in one queue, and each free worker takes a batch from it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from koa_lightning.serving.service import worker
from koa_lightning.serving.service.job import Job, Result
from koa_lightning.serving.service.problems import Problem

_START_SECONDS = 300.0
_END_SECONDS = 5.0
_PAUSE_SECONDS = 1.0  # before a worker that ended is started again
_log = logging.getLogger(__name__)


@dataclass
class _Waiting:
    job: Job
    result: asyncio.Future[Result]
    alone: bool = False  # its batch ended a worker, so it is retried alone, without risk to others


class Workers:
    """Grades jobs in worker processes, batched as they come.

    Args:
        api: A pickled `GraderAPI`.
        n: Number of processes.
        device: Device of torch, or `auto`.
        batch_size: The most jobs in a batch.
        batch_wait: Seconds that a free worker waits for more jobs once it has one.
        seconds: The longest time of a batch; a slower worker is restarted.
        n_waiting: The most jobs that may wait.
        on_batch: Called with the number of jobs of each batch.
    """

    def __init__(
        self,
        api: bytes,
        *,
        n: int = 1,
        device: str = "auto",
        batch_size: int = 16,
        batch_wait: float = 0.01,
        seconds: float = 60.0,
        n_waiting: int = 256,
        on_batch: Callable[[int], None] = lambda n: None,
    ) -> None:
        self.api, self.n, self.device = api, n, device
        self.batch_size, self.batch_wait, self.seconds = batch_size, batch_wait, seconds
        self.n_waiting, self.on_batch = n_waiting, on_batch
        self.n_ready = 0
        self._line: deque[_Waiting] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start the processes; `n_ready` tells how many are set up."""
        self._arrived, self._gathering = asyncio.Event(), asyncio.Lock()
        self._threads = ThreadPoolExecutor(self.n, thread_name_prefix="worker-pipe")
        self._tasks = [asyncio.create_task(self._keep_alive(number)) for number in range(self.n)]

    async def stop(self) -> None:
        """End the processes; jobs that still wait get a problem."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._fail(list(self._line), Problem("stopping", "the service is being stopped"))
        self._line.clear()

    @property
    def n_in_line(self) -> int:
        """Return how many jobs wait for a worker."""
        return len(self._line)

    async def grade(self, jobs: list[Job]) -> list[Result]:
        """Return the results of jobs, in their order.

        Args:
            jobs: The jobs of one request; they may share batches with others.

        Raises:
            Problem: Too many jobs are waiting.
        """
        if len(self._line) + len(jobs) > self.n_waiting:
            raise Problem("busy", f"{len(self._line)} images wait already; try again in some seconds")
        loop = asyncio.get_running_loop()
        waiting = [_Waiting(job, loop.create_future()) for job in jobs]
        self._line.extend(waiting)
        self._arrived.set()
        try:
            return await asyncio.gather(*(each.result for each in waiting))
        finally:
            for each in waiting:
                each.result.cancel()  # if the request was given up, its jobs leave the queue

    async def _keep_alive(self, number: int) -> None:
        while True:
            process, pipe = await asyncio.to_thread(worker.start, self.api, self.device, number)
            try:
                await self._work(pipe)
            finally:
                await self._end(process, pipe)
            _log.error("worker %d ended (exit code %s); restarting it", number, process.exitcode)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _work(self, pipe: Connection) -> None:
        """Give batches to a worker until it ends."""
        batch: list[_Waiting] = []
        is_ready = False
        try:
            if await self._exchange(pipe, None, _START_SECONDS) != worker.READY:
                return
            is_ready = True
            self.n_ready += 1
            while True:
                batch = await self._next()
                self.on_batch(len(batch))
                results = await self._exchange(pipe, [each.job for each in batch], self.seconds)
                for each, result in zip(batch, results, strict=True):
                    if not each.result.done():
                        each.result.set_result(result)
                batch = []
        except TimeoutError:
            self._again_or_fail(batch, Problem("timeout", f"grading took more than {self.seconds:g} s"))
        except (EOFError, OSError):
            self._again_or_fail(batch, Problem("internal", "this image ended the process that read it"))
        finally:
            self.n_ready -= is_ready
            self._fail(batch, Problem("stopping", "the service is being stopped"))

    async def _exchange(self, pipe: Connection, jobs: list[Job] | None, seconds: float) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _exchange, pipe, jobs, seconds)

    async def _next(self) -> list[_Waiting]:
        """Return the next batch: at least one job that somebody waits for."""
        batch: list[_Waiting] = []
        async with self._gathering:  # one worker at a time; otherwise they would split the batch
            try:
                return await self._gather(batch)
            except asyncio.CancelledError:
                self._line.extendleft(reversed(batch))
                raise

    async def _gather(self, batch: list[_Waiting]) -> list[_Waiting]:
        until: float | None = None
        while True:
            while self._line and len(batch) < self.batch_size and not (batch and self._line[0].alone):
                first = self._line.popleft()
                if not first.result.done():
                    batch.append(first)
                if batch and batch[-1].alone:
                    return batch
            full = len(batch) == self.batch_size or bool(self._line)
            until = until or (time.monotonic() + self.batch_wait if batch else None)
            left = None if until is None else until - time.monotonic()
            if batch and (full or (left is not None and left <= 0)):
                return batch
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _again_or_fail(self, batch: list[_Waiting], problem: Problem) -> None:
        """Retry the jobs of a batch that ended its worker one by one; a job that was alone fails."""
        if len(batch) == 1:
            self._fail(batch, problem)
        else:
            self._line.extendleft(_Waiting(each.job, each.result, alone=True) for each in reversed(batch))
            self._arrived.set()
        batch.clear()

    @staticmethod
    def _fail(batch: list[_Waiting], problem: Problem) -> None:
        for each in batch:
            if not each.result.done():
                each.result.set_result(Result(problem=problem))

    @staticmethod
    async def _end(process: SpawnProcess, pipe: Connection) -> None:
        with contextlib.suppress(OSError, ValueError):
            pipe.send(None)
        await asyncio.to_thread(_join, process)
        pipe.close()  # a thread may have waited on it until the process ended


def _exchange(pipe: Connection, jobs: list[Job] | None, seconds: float) -> Any:
    """Send jobs, if there are any, and return what comes back.

    Raises:
        TimeoutError: Nothing came in time.
        EOFError: The other end has closed.
    """
    if jobs is not None:
        pipe.send(jobs)
    if not pipe.poll(seconds):
        raise TimeoutError
    return pipe.recv()


def _join(process: SpawnProcess) -> None:
    process.join(_END_SECONDS / 2)
    for end in (process.terminate, process.kill):
        if process.is_alive():
            end()
            process.join(_END_SECONDS / 2)
