"""workqueue: one task per key, later and later after failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from logstream_operator.errors import Unreachable
from logstream_operator.workqueue import FIRST_RETRY_S, LAST_RETRY_S, WorkQueue, backoff_s

from .examples import until


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


async def working(
    work: Callable[[str], Awaitable[float | None]], then: Callable[[WorkQueue[str]], Awaitable[None]], workers: int = 3
) -> None:
    """Runs a queue until `then` has ended."""
    queue = WorkQueue[str](work, settle_s=0.01)
    task = asyncio.create_task(queue.run(workers))
    try:
        await then(queue)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_key_is_never_worked_on_twice_at_one_time_and_no_change_is_missed() -> None:
    running: set[str] = set()
    done: list[str] = []

    async def work(key: str) -> None:
        assert key not in running
        running.add(key)
        await asyncio.sleep(0.02)
        running.remove(key)
        done.append(key)

    async def then(queue: WorkQueue[str]) -> None:
        for _ in range(3):
            queue.add("a")
            queue.add("b")
        await until(lambda: len(done) >= 2)
        assert sorted(done) == ["a", "b"], "what comes in a swarm is worked on once"
        queue.add("a", 0)
        await until(lambda: "a" in running)
        queue.add("a", 0)  # while it is worked on: once more afterwards
        await until(lambda: done.count("a") >= 3)
        assert len(queue) == 0

    run(lambda: working(work, then))


def test_all_workers_work() -> None:
    """No wake-up is lost between them: as many keys as workers meet at one barrier."""
    barrier = asyncio.Barrier(4)

    async def work(_key: str) -> None:
        await barrier.wait()

    async def then(queue: WorkQueue[str]) -> None:
        for turn in range(20):
            for key in "abc":
                queue.add(f"{key}{turn}", 0)
            await barrier.wait()
            await asyncio.sleep(0)

    run(lambda: working(work, then))


def test_a_failure_is_tried_again_and_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    tries: list[str] = []

    async def work(key: str) -> None:
        tries.append(key)
        if key == "bad" and tries.count("bad") == 1:
            raise Unreachable("Pod", 503, "busy")
        if key == "worse" and tries.count("worse") == 1:
            raise ZeroDivisionError

    async def then(queue: WorkQueue[str]) -> None:
        for key in ("bad", "worse", "good"):
            queue.add(key, 0)
        await until(lambda: sorted(tries) == ["bad", "bad", "good", "worse", "worse"])

    run(lambda: working(work, then))
    assert "bad: try 1 failed" in caplog.text
    assert "worse: a mistake in the operator" in caplog.text


def test_work_may_ask_to_come_back() -> None:
    times = []

    async def work(_key: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.05 if len(times) < 3 else None

    async def then(queue: WorkQueue[str]) -> None:
        queue.add("a")
        await until(lambda: len(times) >= 3)
        assert len(queue) == 0

    run(lambda: working(work, then))


def test_what_is_asked_for_sooner_comes_sooner() -> None:
    done = []

    async def work(key: str) -> None:
        done.append(key)

    async def then(queue: WorkQueue[str]) -> None:
        queue.add("a", 3600)
        queue.add("a", 0)
        queue.add("a", 3600)
        await until(lambda: bool(done))

    run(lambda: working(work, then))


def test_how_long_work_has_been_going_on() -> None:
    async def work(_key: str) -> None:
        await asyncio.sleep(3600)

    async def then(queue: WorkQueue[str]) -> None:
        assert queue.longest_s() == 0
        queue.add("a", 0)
        await until(lambda: queue.longest_s() > 0)

    run(lambda: working(work, then))


def test_backoff_grows_to_a_bound_and_is_spread() -> None:
    assert backoff_s(1, 0) == FIRST_RETRY_S
    assert [backoff_s(n, 0) for n in (2, 3, 4)] == [2, 4, 8]
    assert backoff_s(1000, 0) == LAST_RETRY_S
    assert backoff_s(1, 1) == FIRST_RETRY_S * 0.75


def test_work_that_is_cut_off_from_outside_is_tried_again() -> None:
    """Kopf, when it fails, cancels what work waits for: that must cost no worker."""
    tries: list[asyncio.Task[None]] = []

    async def work(_key: str) -> None:
        waited_for = asyncio.create_task(asyncio.sleep(20 if not tries else 0))
        tries.append(waited_for)
        await asyncio.gather(waited_for)

    async def then(queue: WorkQueue[str]) -> None:
        queue.add("a", 0)
        await until(lambda: len(tries) == 1)
        tries[0].cancel()
        await until(lambda: len(tries) == 2)
        await until(tries[1].done)

    run(lambda: working(work, then, workers=1))
