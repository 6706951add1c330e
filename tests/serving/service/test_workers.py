import asyncio
import os
import pickle

import psutil
import pytest

from tests.fixtures.echo import EchoAPI

pytest.importorskip("litserve", reason='pip install "koa-lightning[serve]"')

from koa_lightning.serving.service.job import Job
from koa_lightning.serving.service.problems import Problem
from koa_lightning.serving.service.workers import Workers


def run(work, **settings):
    """Start workers, do some work with them, and stop them; returns what the work returned, and the batches' sizes."""
    batches = []

    async def main():
        workers = Workers(pickle.dumps(EchoAPI()), on_batch=batches.append, **settings)
        await workers.start()
        try:
            while not workers.n_ready:
                await asyncio.sleep(0.02)
            return await asyncio.wait_for(work(workers), 120)
        finally:
            await workers.stop()

    found = asyncio.run(main())
    assert not [child for child in psutil.Process().children(recursive=True) if "grader" in child.name()]
    return found, batches


def names(results):
    return [result.fields["file"] if result.fields else result.problem.code for result in results]


def test_what_waits_is_graded_together_and_answered_in_order():
    async def work(workers):
        first = asyncio.create_task(workers.grade([Job("first", b"0.5")]))
        await asyncio.sleep(0.2)  # the worker is busy; the others gather meanwhile
        rest = await asyncio.gather(*(workers.grade([Job(f"{i}a", b""), Job(f"{i}b", b"")]) for i in range(5)))
        return [await first, *rest]

    results, batches = run(work, batch_size=8)
    assert [names(each) for each in results] == [["first"], *([f"{i}a", f"{i}b"] for i in range(5))]
    assert batches == [1, 8, 2]


def test_a_free_worker_waits_for_more_as_long_as_it_may():
    async def work(workers):
        first = asyncio.create_task(workers.grade([Job("a", b"")]))
        await asyncio.sleep(0.1)
        return names([*await workers.grade([Job("b", b"")]), *await first])

    found, batches = run(work, batch_wait=10.0, batch_size=2)  # it would wait longer, but two are a whole batch
    assert (found, batches) == (["b", "a"], [2])


def test_a_file_that_ends_its_worker_harms_no_other():
    async def work(workers):
        busy = asyncio.create_task(workers.grade([Job("busy", b"0.3")]))
        await asyncio.sleep(0.1)
        found = await workers.grade([Job("a", b""), Job("bad", b"die"), Job("c", b"")])
        return names(found), names(await busy), names(await workers.grade([Job("later", b"")]))

    found, _ = run(work, batch_size=8)
    assert found == (["a", "internal", "c"], ["busy"], ["later"])


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_started_again():
    async def work(workers):
        [hung] = await workers.grade([Job("bad", b"sleep")])
        return hung.problem.code, names(await workers.grade([Job("later", b"")]))

    assert run(work, seconds=0.5)[0] == ("timeout", ["later"])


def test_too_many_that_wait_are_refused():
    async def work(workers):
        busy = asyncio.create_task(workers.grade([Job("busy", b"0.5")]))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(workers.grade([Job("a", b"")] * 3))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await workers.grade([Job("b", b"")] * 2)
        assert workers.n_in_line == 3
        await asyncio.gather(busy, waiting)
        return refused.value.code

    assert run(work, n_waiting=4)[0] == "busy"


@pytest.mark.slow
def test_what_nobody_waits_for_any_more_is_not_graded():
    async def work(workers):
        busy = asyncio.create_task(workers.grade([Job("busy", b"0.5")]))
        await asyncio.sleep(0.1)
        given_up = asyncio.create_task(workers.grade([Job("a", b"")] * 3))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await busy
        await workers.grade([Job("b", b"")])

    assert run(work, batch_size=8)[1] == [1, 1]


@pytest.mark.slow
def test_several_workers_share_the_line():
    async def work(workers):
        while workers.n_ready < 2:
            await asyncio.sleep(0.02)
        await asyncio.gather(*(workers.grade([Job(str(i), b"0.3")]) for i in range(4)))
        return len({child.pid for child in psutil.Process().children(recursive=True)} - {os.getpid()}) >= 2

    found, batches = run(work, n=2, batch_size=2, batch_wait=0.0)
    assert found and sum(batches) == 4 and len(batches) >= 2


def test_what_waits_at_the_end_is_told_so():
    async def main():
        workers = Workers(pickle.dumps(EchoAPI()))
        await workers.start()
        waiting = asyncio.create_task(workers.grade([Job("a", b"")]))
        await asyncio.sleep(0.05)
        await workers.stop()
        return names(await asyncio.wait_for(waiting, 10))

    assert asyncio.run(main()) == ["stopping"]
